use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::relay::listen;

/// No client of a test sends more before its tunnel is open.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// An HTTP proxy that knows `CONNECT` alone. Whatever host is asked for, the tunnel leads to its one target, so names need
/// not exist.
pub struct ConnectProxy {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// With `authorization`, a request must bear this value of `Proxy-Authorization`; others are answered 407.
    pub fn start(target: SocketAddr, authorization: Option<&str>) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let wanted = authorization.map(|value| format!("proxy-authorization: {value}\r\n"));
        let port = listen(move |stream| {
            let (seen, wanted) = (Arc::clone(&seen), wanted.clone());
            async move {
                // A connection that fails is the client's affair.
                let _ = tunnel(stream, target, &seen, wanted.as_deref()).await;
            }
        });
        ConnectProxy { port, requests }
    }

    /// What came before the tunnels: request lines and headers, as they were sent.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn tunnel(
    mut client: TcpStream,
    target: SocketAddr,
    seen: &Mutex<Vec<String>>,
    wanted: Option<&str>,
) -> io::Result<()> {
    let head = read_head(&mut client).await?;
    let lets_in = wanted.is_none_or(|line| {
        let lower = |text: &str| text.to_ascii_lowercase();
        lower(&head).contains(&lower(line))
    });
    let connects = head.starts_with("CONNECT ");
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head);
    let refusal = match (connects, lets_in) {
        (true, true) => None,
        (true, false) => Some("407 Proxy Authentication Required"),
        (false, _) => Some("405 Method Not Allowed"),
    };
    if let Some(status) = refusal {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(target).await?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the tunnel.
    while !head.ends_with(HEAD_END) {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(client.read_u8().await?);
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}
