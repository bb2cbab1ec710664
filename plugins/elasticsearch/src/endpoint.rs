//! One node and the way to it. The `elasticsearch` crate is the HTTP layer only.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::auth::Credentials as Credential;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use elasticsearch::http::response::Response;
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};
use serde_json::Value;
use tokio::sync::OnceCell;
use weir_plugin_sdk::Secret;

use crate::config::{ElasticsearchConfig, ProxyConfig, parse_url};
use crate::credentials::Credentials;
use crate::flight::Flight;
use crate::outcome::{Doubt, Outcome, classify_answer};
use crate::tls::Tls;

/// Largest answer that is read: 50,000 items, the largest bulk, with an error of over 1 KB each.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

pub(crate) struct Endpoint {
    /// Made at the first request.
    transport: OnceCell<Transport>,
    /// Ends in a slash.
    url: Url,
    /// For messages.
    name: String,
    credentials: Option<Credentials>,
    proxy: Option<ProxyConfig>,
    tls: Tls,
}

impl fmt::Debug for Endpoint {
    /// Without the transport, which would show the client's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Contacts nobody. Errors: URL, proxy or TLS set-up are unusable; without secrets.
    pub(crate) fn new(text: &str, config: &ElasticsearchConfig, tls: &Tls) -> Result<Self, String> {
        let mut url = parse_url(text)?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let endpoint = Endpoint {
            transport: OnceCell::new(),
            url,
            name: text.to_owned(),
            credentials: Credentials::of(config)?,
            proxy: config.proxy.clone(),
            tls: tls.clone(),
        };
        // Where nothing has to be asked first, what is wrong with the set-up shows now.
        endpoint.build(tls.authorities())?;
        Ok(endpoint)
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
            .send(Method::Post, path, headers, Some(body), timeout)
            .await
        {
            Ok(response) => self.read(response, path, flight).await,
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
        let status = response.status_code().as_u16();
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
        let transport = self
            .transport
            .get_or_try_init(|| self.connect(timeout))
            .await
            .map_err(|reason| Outcome::NotSent(named(reason)))?;
        let sent = transport.send(method, path, headers, None::<&()>, body, Some(timeout));
        sent.await.map_err(|error| self.classify_error(&error))
    }

    /// The transport; where a fingerprint says whom to trust, the server is asked for its chain first.
    async fn connect(&self, timeout: Duration) -> Result<Transport, String> {
        let authorities = match self
            .tls
            .fingerprint
            .filter(|_| self.url.scheme() == "https")
        {
            Some(fingerprint) => Some(fingerprint.find_at(&self.url, timeout).await?),
            None => self.tls.authorities(),
        };
        self.build(authorities)
    }

    fn build(&self, authorities: Option<Certificate>) -> Result<Transport, String> {
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(self.url.clone()));
        builder = match &self.proxy {
            Some(proxy) => {
                let (username, password) = (proxy.username.as_ref(), proxy.password.as_ref());
                let url = parse_url(&proxy.url)?;
                builder.proxy(
                    url,
                    username.map(Secret::expose),
                    password.map(Secret::expose),
                )
            }
            // Proxies of the environment are none of this sink's settings.
            None => builder.disable_proxy(),
        };
        if let Some(authorities) = authorities {
            builder = builder.cert_validation(CertificateValidation::Full(authorities));
        }
        if let Some(identity) = &self.tls.identity {
            builder = builder.auth(Credential::Certificate(identity.clone()));
        }
        builder
            .build()
            .map_err(|error| format!("no client for {}: {error}", self.name))
    }

    async fn read(&self, response: Response, path: &str, flight: &Flight) -> Outcome {
        let at = response.url();
        let asked = self.url.join(path).unwrap_or_else(|_| self.url.clone());
        if at.origin() != asked.origin() || at.path() != asked.path() {
            return Outcome::Systemic(format!(
                "{} redirects to {}",
                self.name,
                at.origin().ascii_serialization()
            ));
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
        let status = response.status_code().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        match response.bytes().await {
            Ok(body) => self.named(classify_answer(
                status,
                retry_after.as_deref(),
                &body,
                flight.front(),
            )),
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

    fn classify_error(&self, error: &elasticsearch::Error) -> Outcome {
        let reason = format!("{}: {}", self.name, innermost(error));
        let Some(http) = reqwest_error(error) else {
            return Outcome::Systemic(reason);
        };
        if http.is_connect() {
            Outcome::NotSent(reason)
        } else if http.is_timeout() {
            Outcome::Unknown(Doubt::Timeout, reason)
        } else if http.is_builder() || http.is_redirect() {
            Outcome::Systemic(reason)
        } else {
            Outcome::Unknown(Doubt::Reset, reason)
        }
    }
}

fn chain(error: &elasticsearch::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error: &&(dyn StdError + 'static)| {
        (*error).source()
    })
}

fn reqwest_error(error: &elasticsearch::Error) -> Option<&reqwest::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The last cause says it plainly: `Connection refused (os error 111)`.
fn innermost(error: &elasticsearch::Error) -> String {
    chain(error)
        .last()
        .map_or_else(|| error.to_string(), |error| error.to_string())
}
