//! Sends a bulk request and says what became of it. Which node is asked, and which next, is decided here.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::config::ElasticsearchConfig;
use crate::endpoint::Endpoint;
use crate::flight::Flight;
use crate::nodes::NodeTable;
use crate::outcome::Outcome;

/// Only what the verdicts need: an answer of 1,000 items shrinks from 200 KB to 40 KB.
const FILTER_PATH: &str = "errors,items.*._id,items.*.status,items.*.error,items.*.failure_store";

#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Vec<Endpoint>,
    nodes: Mutex<NodeTable>,
    bulk_path: String,
    gzip: bool,
    timeout: Duration,
}

/// What became of a request, and what it cost.
#[derive(Debug)]
pub(crate) struct Trip {
    pub(crate) outcome: Outcome,
    /// The body before compression.
    pub(crate) raw_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) duration: Duration,
}

impl Client {
    /// Contacts nobody. Errors: a URL or the TLS set-up is unusable; without secrets.
    pub(crate) fn new(config: &ElasticsearchConfig) -> Result<Self, String> {
        let tls = config.tls.client_config()?;
        let endpoints = config
            .urls
            .iter()
            .map(|url| Endpoint::new(url, config, &tls));
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

    /// Sends the flight's front segment.
    pub(crate) async fn send(&self, flight: &Flight) -> Trip {
        let started_at = Instant::now();
        let raw = flight.body();
        let raw_bytes = raw.len() as u64;
        let (sent_bytes, outcome) = match self.encode(raw).await {
            Ok((body, headers)) => (body.len() as u64, self.offer(body, headers, flight).await),
            Err(reason) => (0, Outcome::NotSent(reason)),
        };
        Trip {
            outcome,
            raw_bytes,
            sent_bytes,
            duration: started_at.elapsed(),
        }
    }

    /// Goes on to other nodes only while no byte was taken by one.
    async fn offer(&self, body: Bytes, headers: HeaderMap, flight: &Flight) -> Outcome {
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

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whether each node works, by its URL.
    pub(crate) fn targets(&self, now: Instant) -> Vec<(String, bool)> {
        let nodes = self.nodes();
        let state = |(position, endpoint): (usize, &Endpoint)| {
            (endpoint.name().to_owned(), !nodes.rests(position, now))
        };
        self.endpoints.iter().enumerate().map(state).collect()
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
        let outcome = endpoint
            .bulk(&self.bulk_path, headers, body, self.timeout, flight)
            .await;
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
