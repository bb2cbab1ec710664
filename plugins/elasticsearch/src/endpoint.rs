//! One node and the way to it.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Proxy, Response, Url};
use rustls::ClientConfig;
use serde_json::Value;

use crate::config::{ElasticsearchConfig, parse_url};
use crate::credentials::Credentials;
use crate::flight::Flight;
use crate::outcome::{Doubt, Outcome, classify_answer, read_retry_after};

/// Largest answer that is read: 50,000 items, the largest bulk, with an error of over 1 KB each.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// A node that takes no connection within this is away, however long a bulk may take (`request_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("weir-elasticsearch/", env!("CARGO_PKG_VERSION"));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) struct Endpoint {
    client: Client,
    /// Ends in a slash.
    url: Url,
    /// For messages.
    name: String,
    credentials: Option<Credentials>,
}

impl fmt::Debug for Endpoint {
    /// Without the client, which would show the proxy's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Contacts nobody. Errors: URL, proxy or TLS set-up are unusable; without secrets.
    pub(crate) fn new(
        text: &str,
        config: &ElasticsearchConfig,
        tls: &ClientConfig,
    ) -> Result<Self, String> {
        let mut url = parse_url(text)?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let failed = |error: reqwest::Error| format!("no client for {text}: {error}");
        let mut builder = Client::builder()
            .use_preconfigured_tls(tls.clone())
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Followed with a body, a redirect would store documents where nobody said.
            .redirect(Policy::none())
            // Proxies of the environment are none of this sink's settings.
            .no_proxy();
        if let Some(settings) = &config.proxy {
            let mut proxy = Proxy::all(parse_url(&settings.url)?).map_err(failed)?;
            if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
                proxy = proxy.basic_auth(username.expose(), password.expose());
            }
            builder = builder.proxy(proxy);
        }
        Ok(Endpoint {
            client: builder.build().map_err(failed)?,
            url,
            name: text.to_owned(),
            credentials: Credentials::of(config)?,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a bulk request whose items are the flight's front segment.
    pub(crate) async fn bulk(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
        flight: &Flight,
    ) -> Outcome {
        match self
            .send(Method::POST, path, headers, Some(body), timeout)
            .await
        {
            Ok(response) => self.read(response, flight).await,
            Err(outcome) => outcome,
        }
    }

    /// One question beside the bulks. Answers the status and, where the body is JSON, the body.
    ///
    /// Errors: why there is no answer; without secrets.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        timeout: Duration,
    ) -> Result<(u16, Value), String> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let sent = self
            .send(method, path, HeaderMap::new(), body, timeout)
            .await;
        let response = sent.map_err(Outcome::into_reason)?;
        let status = response.status().as_u16();
        if response
            .content_length()
            .is_some_and(|bytes| bytes > ANSWER_BYTES_MAX)
        {
            return Err("the answer is too large".to_owned());
        }
        let bytes = response.bytes().await.map_err(|error| innermost(&error))?;
        Ok((
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        ))
    }

    /// True if what is sent can be read on its way to another machine.
    pub(crate) fn is_plain_and_far(&self) -> bool {
        let host = self
            .url
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        let near = host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        self.url.scheme() == "http" && !near
    }

    /// Errors: what became of a request without an answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Response, Outcome> {
        let named = |reason: String| format!("{}: {reason}", self.name);
        if let Some(credentials) = &self.credentials {
            let header = credentials
                .header()
                .map_err(|reason| Outcome::Systemic(named(reason)))?;
            headers.insert(AUTHORIZATION, header);
        }
        let url = self
            .url
            .join(path)
            .map_err(|error| Outcome::Systemic(named(error.to_string())))?;
        headers.insert(ACCEPT, JSON);
        headers.entry(CONTENT_TYPE).or_insert(JSON);
        let mut request = self
            .client
            .request(method, url)
            .headers(headers)
            .timeout(timeout);
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = request.send().await;
        sent.map_err(|error| self.classify_error(&error))
    }

    async fn read(&self, response: Response, flight: &Flight) -> Outcome {
        if response.status().is_redirection() {
            let target = response.headers().get(LOCATION);
            let target = target.and_then(|target| self.url.join(target.to_str().ok()?).ok());
            let target = target.map_or_else(
                || "nowhere".to_owned(),
                |target| target.origin().ascii_serialization(),
            );
            return Outcome::Systemic(format!("{} redirects to {target}", self.name));
        }
        if let Some(bytes) = response
            .content_length()
            .filter(|bytes| *bytes > ANSWER_BYTES_MAX)
        {
            let reason = format!(
                "{}: an answer of {bytes} bytes, above {ANSWER_BYTES_MAX}",
                self.name
            );
            return Outcome::Unknown(Doubt::BadAnswer, reason);
        }
        let status = response.status().as_u16();
        let header = |name| {
            let value: Option<&HeaderValue> = response.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let retry_after = header(RETRY_AFTER).and_then(|text| read_retry_after(text, header(DATE)));
        match response.bytes().await {
            Ok(body) => self.named(classify_answer(status, retry_after, &body, flight.front())),
            Err(error) => match self.classify_error(&error) {
                // The request had arrived, or there were no answer to break off.
                Outcome::NotSent(reason) => Outcome::Unknown(Doubt::Reset, reason),
                outcome => outcome,
            },
        }
    }

    /// Puts the node's name before what was seen.
    fn named(&self, outcome: Outcome) -> Outcome {
        let named = |reason: String| format!("{}: {reason}", self.name);
        match outcome {
            Outcome::Answered(items) => Outcome::Answered(items),
            Outcome::NotSent(reason) => Outcome::NotSent(named(reason)),
            Outcome::Unknown(doubt, reason) => Outcome::Unknown(doubt, named(reason)),
            Outcome::Overload(floor, reason) => Outcome::Overload(floor, named(reason)),
            Outcome::TooLarge(reason) => Outcome::TooLarge(named(reason)),
            Outcome::BadRequest(reason) => Outcome::BadRequest(named(reason)),
            Outcome::Systemic(reason) => Outcome::Systemic(named(reason)),
        }
    }

    fn classify_error(&self, error: &reqwest::Error) -> Outcome {
        let reason = format!("{}: {}", self.name, innermost(error));
        if error.is_connect() {
            Outcome::NotSent(reason)
        } else if error.is_timeout() {
            Outcome::Unknown(Doubt::Timeout, reason)
        } else if error.is_builder() {
            Outcome::Systemic(reason)
        } else {
            Outcome::Unknown(Doubt::Reset, reason)
        }
    }
}

/// The last cause says it plainly: `Connection refused (os error 111)`.
fn innermost(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| {
        (*cause).source()
    });
    causes
        .last()
        .map_or_else(|| error.to_string(), |cause| cause.to_string())
}
