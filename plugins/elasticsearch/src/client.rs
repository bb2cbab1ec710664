//! Sends a bulk request and says what became of it. The `elasticsearch` crate is the HTTP layer only: one transport per
//! node, since its own pools neither retry nor know a dead node.

use std::error::Error as StdError;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::http::headers::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use elasticsearch::http::response::Response;
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::http::{Method, Url};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::{ElasticsearchConfig, parse_url};
use crate::flight::Flight;
use crate::nodes::NodeTable;
use crate::outcome::{Doubt, Outcome, classify_answer};

/// Only what the verdicts need: an answer of 1,000 items shrinks from 200 KB to 40 KB.
const FILTER_PATH: &str = "errors,items.*._id,items.*.status,items.*.error,items.*.failure_store";
/// Largest answer that is read: 50,000 items, the largest bulk, with an error of over 1 KB each.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
struct Endpoint {
    transport: Transport,
    /// Where the request must have ended up, unless somebody redirected it.
    bulk_url: Url,
    /// For messages.
    name: String,
}

#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Vec<Endpoint>,
    nodes: Mutex<NodeTable>,
    bulk_path: String,
    gzip: bool,
    timeout: Duration,
}

impl Client {
    /// Contacts nobody. Errors: a URL or the TLS set-up is unusable; without secrets.
    pub(crate) fn new(config: &ElasticsearchConfig) -> Result<Self, String> {
        let endpoints = config.urls.iter().map(|url| Endpoint::new(url, config));
        let endpoints = endpoints.collect::<Result<Vec<_>, String>>()?;
        let timeout = config.request_timeout.0;
        // The server gives up on a shard before we give up on the server, so that we learn which items failed.
        let server_timeout_ms = timeout.as_millis() / 2;
        let require_alias = match config.require_alias {
            true => "&require_alias=true",
            false => "",
        };
        Ok(Client {
            nodes: Mutex::new(NodeTable::new(endpoints.len())),
            endpoints,
            bulk_path: format!(
                "_bulk?timeout={server_timeout_ms}ms{require_alias}&filter_path={FILTER_PATH}"
            ),
            gzip: config.gzip,
            timeout,
        })
    }

    /// Sends the flight's front segment; goes on to other nodes only while no byte was taken by one.
    pub(crate) async fn send(&self, flight: &Flight) -> Outcome {
        let (body, headers) = match self.encode(flight.body()).await {
            Ok(encoded) => encoded,
            Err(reason) => return Outcome::NotSent(reason),
        };
        let mut tried = Vec::new();
        let mut outcome = Outcome::NotSent("no node is configured".to_owned());
        while let Some(node) = self.pick(&tried) {
            tried.push(node);
            outcome = self
                .attempt(node, body.clone(), headers.clone(), flight)
                .await;
            if !matches!(outcome, Outcome::NotSent(_)) {
                break;
            }
        }
        outcome
    }

    fn nodes(&self) -> MutexGuard<'_, NodeTable> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(&self, tried: &[usize]) -> Option<usize> {
        self.nodes().pick(tried, Instant::now())
    }

    async fn attempt(
        &self,
        node: usize,
        body: Bytes,
        headers: HeaderMap,
        flight: &Flight,
    ) -> Outcome {
        let Some(endpoint) = self.endpoints.get(node) else {
            return Outcome::NotSent("no node is configured".to_owned());
        };
        let sent = endpoint.transport.send(
            Method::Post,
            &self.bulk_path,
            headers,
            None::<&()>,
            Some(body),
            Some(self.timeout),
        );
        let outcome = match sent.await {
            Ok(response) => endpoint.read(response, flight).await,
            Err(error) => endpoint.classify_error(&error),
        };
        let mut nodes = self.nodes();
        match outcome {
            Outcome::NotSent(_) | Outcome::Unknown(..) => nodes.failed(node, Instant::now()),
            _ => nodes.worked(node),
        }
        outcome
    }

    /// Body and headers of a request. Compression runs beside the thread that serves the connections.
    async fn encode(&self, body: Vec<u8>) -> Result<(Bytes, HeaderMap), String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        if !self.gzip {
            return Ok((body.into(), headers));
        }
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let compressed = tokio::task::spawn_blocking(move || {
            // Level 1: the network between is fast, and the level above costs twice the time for a tenth less.
            let mut encoder =
                GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
            encoder.write_all(&body)?;
            encoder.finish()
        });
        let compressed = compressed
            .await
            .map_err(|error| format!("compression did not finish: {error}"))?;
        let compressed = compressed.map_err(|error| format!("compression failed: {error}"))?;
        Ok((compressed.into(), headers))
    }
}

impl Endpoint {
    fn new(text: &str, config: &ElasticsearchConfig) -> Result<Self, String> {
        let mut url = parse_url(text)?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let bulk_url = url
            .join("_bulk")
            .map_err(|error| format!("is no URL: {error}"))?;
        let name = text.to_owned();
        // Proxies of the environment are none of this sink's settings.
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url)).disable_proxy();
        if let Some(credentials) = credentials(config) {
            builder = builder.auth(credentials);
        }
        let transport = builder
            .build()
            .map_err(|error| format!("no client for {name}: {error}"))?;
        Ok(Endpoint {
            transport,
            bulk_url,
            name,
        })
    }

    async fn read(&self, response: Response, flight: &Flight) -> Outcome {
        let at = response.url();
        if at.origin() != self.bulk_url.origin() || at.path() != self.bulk_url.path() {
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

/// `validate` has refused half a pair and characters that no header takes.
fn credentials(config: &ElasticsearchConfig) -> Option<Credentials> {
    if let Some(api_key) = &config.api_key {
        let text = api_key.expose();
        return Some(match text.split_once(':') {
            Some((id, key)) => Credentials::ApiKey(id.to_owned(), key.to_owned()),
            None => Credentials::EncodedApiKey(text.to_owned()),
        });
    }
    let (username, password) = (config.username.as_ref()?, config.password.as_ref()?);
    Some(Credentials::Basic(
        username.expose().to_owned(),
        password.expose().to_owned(),
    ))
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
