//! A request with its body read, decoded and bounded.

use std::borrow::Cow;
use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::error::ApiError;

pub(crate) struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Without its content encoding.
    pub body: Bytes,
}

/// Why a body was not read to its end.
pub(crate) enum BodyError {
    /// Larger than the limit, judged without its content encoding.
    TooLarge,
    Malformed(ApiError),
    /// The client went away.
    Gone,
}

impl Request {
    pub async fn read(
        request: hyper::Request<Incoming>,
        body_max_bytes: usize,
    ) -> Result<Self, BodyError> {
        let (parts, body) = request.into_parts();
        let raw = read_raw(body, body_max_bytes).await?;
        let encoding = parts
            .headers
            .get(CONTENT_ENCODING)
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        let body = match encoding.as_deref() {
            None | Some("identity") => raw,
            Some("gzip") => gunzip(&raw, body_max_bytes)?,
            Some(other) => {
                return Err(BodyError::Malformed(ApiError::illegal_argument(format!(
                    "content encoding [{other}] is not supported"
                ))));
            }
        };
        Ok(Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body,
        })
    }

    /// The path's parts, percent-decoded.
    pub fn segments(&self) -> Vec<Cow<'_, str>> {
        self.uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
            .collect()
    }

    /// A parameter of the URL; one without a value is empty text.
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes())
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value != "false")
    }

    /// The body as JSON; no body is an empty object.
    pub fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Object(Map::new()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| ApiError::new(400, "x_content_parse_exception", error.to_string()))
    }

    /// Elasticsearch refuses a body whose type it does not read.
    pub fn check_content_type(&self) -> Result<(), ApiError> {
        let content_type = self
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        match media_type {
            "application/json"
            | "application/x-ndjson"
            | "application/vnd.elasticsearch+json"
            | "application/vnd.elasticsearch+x-ndjson" => Ok(()),
            other => Err(ApiError::new(
                406,
                "media_type_header_exception",
                format!("Content-Type header [{other}] is not supported"),
            )),
        }
    }

    pub fn header_list(&self) -> Vec<(String, String)> {
        self.headers
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect()
    }
}

async fn read_raw(mut body: Incoming, max_bytes: usize) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut raw = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(BodyError::Gone);
        };
        if let Ok(data) = frame.into_data() {
            if raw.len() + data.len() > max_bytes {
                return Err(BodyError::TooLarge);
            }
            raw.extend_from_slice(&data);
        }
    }
    Ok(raw.freeze())
}

fn gunzip(raw: &[u8], max_bytes: usize) -> Result<Bytes, BodyError> {
    let mut decoded = Vec::new();
    let limit = (max_bytes as u64).saturating_add(1);
    MultiGzDecoder::new(raw)
        .take(limit)
        .read_to_end(&mut decoded)
        .map_err(|error| {
            BodyError::Malformed(ApiError::illegal_argument(format!(
                "the gzip body cannot be read: {error}"
            )))
        })?;
    if decoded.len() > max_bytes {
        return Err(BodyError::TooLarge);
    }
    Ok(Bytes::from(decoded))
}
