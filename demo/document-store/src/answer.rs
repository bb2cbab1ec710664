//! Answers on their way to the client: whole, slow or cut off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use crate::observations::Flight;

/// How a body ends when its pieces are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Complete,
    /// One more turn, in which hyper writes out what it has buffered, then [`Ending::Cut`].
    CutOnceFlushed,
    Cut,
}

/// A body in pieces. It ends the request's flight just before its last byte leaves, so that a client which waits for
/// the whole answer never seems to have two requests under way.
pub(crate) struct AnswerBody {
    pieces: VecDeque<Bytes>,
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
    ending: Ending,
    length: u64,
    flight: Option<Flight>,
}

impl AnswerBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self {
            length: bytes.len() as u64,
            pieces: if bytes.is_empty() {
                VecDeque::new()
            } else {
                VecDeque::from([bytes])
            },
            pause: None,
            ending: Ending::Complete,
            flight: None,
        }
    }

    /// Promises all of `bytes`, sends the first `keep_bytes`, then fails, which closes the connection.
    pub fn cut(bytes: Bytes, keep_bytes: usize) -> Self {
        let kept = bytes.slice(..keep_bytes.min(bytes.len().saturating_sub(1)));
        Self {
            ending: Ending::CutOnceFlushed,
            length: bytes.len() as u64,
            ..Self::whole(kept)
        }
    }

    pub fn slow(bytes: Bytes, piece_bytes: usize, pause: Duration) -> Self {
        let size = piece_bytes.max(1);
        let pieces = (0..bytes.len())
            .step_by(size)
            .map(|start| bytes.slice(start..(start + size).min(bytes.len())))
            .collect();
        Self {
            pieces,
            pause: Some((pause, Box::pin(tokio::time::sleep(pause)))),
            ..Self::whole(bytes)
        }
    }

    pub fn with_flight(mut self, flight: Flight) -> Self {
        self.flight = Some(flight);
        self
    }

    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some((pause, sleep)) = &mut self.pause {
            ready!(sleep.as_mut().poll(context));
            let next = Instant::now() + *pause;
            sleep.as_mut().reset(next);
        }
        let piece = self.pieces.pop_front();
        if self.pieces.is_empty() {
            self.flight = None;
        }
        if let Some(piece) = piece {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.ending {
            Ending::Complete => Poll::Ready(None),
            Ending::CutOnceFlushed => {
                self.ending = Ending::Cut;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ending::Cut => Poll::Ready(Some(Err(io::Error::other(
                "the script cuts this answer off",
            )))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.ending == Ending::Complete
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

pub(crate) type Answer = Response<AnswerBody>;

pub(crate) fn json(status: u16, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    raw(status, "application/json", Bytes::from(bytes))
}

pub(crate) fn raw(status: u16, content_type: &str, bytes: Bytes) -> Answer {
    let headers = [("content-type".to_owned(), content_type.to_owned())];
    with_headers(status, &headers, AnswerBody::whole(bytes))
}

/// Headers that are no HTTP headers are left out; a status that is none becomes 500.
pub(crate) fn with_headers(status: u16, headers: &[(String, String)], body: AnswerBody) -> Answer {
    let length = body.length();
    let mut answer = Response::new(body);
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            answer.headers_mut().append(name, value);
        }
    }
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    answer
        .headers_mut()
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    // Clients of Elasticsearch 7.14 and newer refuse a server without it.
    answer.headers_mut().insert(
        HeaderName::from_static("x-elastic-product"),
        HeaderValue::from_static("Elasticsearch"),
    );
    answer
}

/// Keeps what `filter_path` names: dotted paths separated by commas, `*` for one level (or a part of a name), `**` for
/// any number. Lists are passed through. Exclusions (`-path`) are not served.
pub(crate) fn filter_path(value: Value, paths: &str) -> Value {
    let paths: Vec<Vec<&str>> = paths
        .split(',')
        .map(|path| path.trim().split('.').collect())
        .collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    keep(value, &paths).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

fn keep(value: Value, paths: &[&[&str]]) -> Option<Value> {
    if paths.iter().any(|path| path.is_empty() || path == &["**"]) {
        return Some(value);
    }
    match value {
        Value::Array(values) => {
            let kept: Vec<Value> = values
                .into_iter()
                .filter_map(|value| keep(value, paths))
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        Value::Object(fields) => {
            let kept: serde_json::Map<String, Value> = fields
                .into_iter()
                .filter_map(|(name, value)| {
                    let below = descend(&name, paths);
                    Some((name, keep(value, &below)?))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        _ => None,
    }
}

/// The paths that are left below a field of this name.
fn descend<'a>(name: &str, paths: &[&'a [&'a str]]) -> Vec<&'a [&'a str]> {
    let mut below = Vec::new();
    for path in paths {
        match path.split_first() {
            Some((&"**", rest)) => {
                below.push(*path);
                if let Some((next, rest)) = rest.split_first()
                    && matches_pattern(next, name)
                {
                    below.push(rest);
                }
            }
            Some((pattern, rest)) if matches_pattern(pattern, name) => below.push(rest),
            _ => {}
        }
    }
    below
}

/// True if `name` is what `pattern` says, where `*` stands for any text.
pub(crate) fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(head) else {
        return false;
    };
    rest.char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .any(|at| matches_pattern(tail, &rest[at..]))
}
