//! The store over its own sockets: a plain client reads the bytes of each answer.

mod faults;
mod wire;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{DocumentStore, Settings};

const DEADLINE: Duration = Duration::from_secs(20);

fn store() -> DocumentStore {
    DocumentStore::start(Settings::default()).expect("a store on a free port")
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON answer")
    }
}

/// Sends one request on a connection of its own and reads to the end of the connection.
fn exchange(
    store: &DocumentStore,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(store.address())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: store\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Ok(Reply {
        status: head[9..12].parse().expect("a status line"),
        body: answer[end + 4..].to_vec(),
        head,
    })
}

fn get(store: &DocumentStore, target: &str) -> Reply {
    exchange(store, "GET", target, &[], b"").expect("an answer")
}

fn post(store: &DocumentStore, target: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    exchange(store, "POST", target, &headers, body.to_string().as_bytes()).expect("an answer")
}

fn try_bulk(store: &DocumentStore, body: &str) -> std::io::Result<Reply> {
    let headers = [("content-type", "application/x-ndjson")];
    exchange(store, "POST", "/_bulk", &headers, body.as_bytes())
}

fn bulk(store: &DocumentStore, body: &str) -> Reply {
    try_bulk(store, body).expect("an answer")
}

/// One external write: its action line and source.
fn write(id: &str, version: i64, source: &str) -> String {
    let action = json!({"index": {"_index": "sla", "_id": id, "version": version, "version_type": "external"}});
    format!("{action}\n{source}\n")
}

fn statuses(answer: &Value) -> Vec<u64> {
    let items = answer["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| {
            item.as_object()
                .expect("an item")
                .values()
                .next()
                .expect("a body")["status"]
                .as_u64()
                .expect("a status")
        })
        .collect()
}
