//! The thread that answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::listen::{BoundListener, HttpError};

/// Connections at one time. A scraper, a prober and a few people need ten; more wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 64;

/// The most that the head of a request may take.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The most that the body of a request may take. No route of today reads one.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long the head of a request may take to arrive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may live: several scrapes, and short enough that a forgotten one gives its place back.
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// How long the answer may take that is on its way when a connection's life is over.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept, so that a machine without free descriptors is not spun on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl BoundListener {
    /// Starts to answer.
    ///
    /// # Errors
    /// The operating system gives no thread or no event queue.
    pub fn serve(self, router: Router) -> Result<HttpServer, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HttpError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let BoundListener { listener, address } = self;
        let router = router.layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
        let serve = async move {
            tokio::select! {
                result = accept_all(listener, router) => {
                    if let Err(error) = result {
                        tracing::error!(event = "http_stopped", %error, "the HTTP server has stopped");
                    }
                }
                _ = stopped => {}
            }
        };
        let thread = thread::Builder::new()
            .name("weir-http".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(HttpError::Start)?;
        tracing::info!(event = "listening", http = %address, "serving /healthz, /readyz and /metrics");
        Ok(HttpServer {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl HttpServer {
    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept_all(listener: std::net::TcpListener, router: Router) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return Ok(());
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            answer(stream, router).await;
            drop(place);
        });
    }
}

/// Answers one connection until its client closes it or its life is over. A client that breaks off or is too slow is
/// its own affair.
async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    if timeout(CONNECTION_LIFETIME, connection.as_mut())
        .await
        .is_err()
    {
        // The answer that is on its way is finished, then the connection closes.
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER_TIMEOUT, connection).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Listen, bind, host_router, with_fallbacks};
    use super::*;
    use crate::metrics::HostMetrics;
    use crate::status::{HostStatus, Role, TaskState};
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    struct Host {
        server: HttpServer,
        status: Arc<HostStatus>,
    }

    fn host() -> Host {
        let status = Arc::new(HostStatus::new("visits"));
        let metrics = Arc::new(HostMetrics::new(Arc::clone(&status)));
        let listen = Listen::Address(([127, 0, 0, 1], 0).into());
        let bound = bind(listen).expect("a port").expect("not off");
        let server = bound
            .serve(host_router(Arc::clone(&status), metrics))
            .expect("a server");
        Host { server, status }
    }

    fn send(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("legal");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn get(host: &Host, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
        split(&send(host.server.address(), &request))
    }

    fn split(answer: &str) -> (u16, String) {
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        (status.expect("a status"), body.expect("a body"))
    }

    #[test]
    fn readiness_follows_the_tasks() {
        let host = host();
        let (code, body) = get(&host, "/readyz");
        assert_eq!(code, 503);
        assert_eq!(
            body,
            r#"{"ready":false,"pipeline":"visits","role":"active","tasks":[]}"#
        );
        host.status.task(0).set(TaskState::Running);
        assert_eq!(get(&host, "/readyz").0, 200);
        host.status.set_role(Role::Standby);
        assert!(get(&host, "/readyz").1.contains(r#""role":"standby""#));
        let reason = "broken".to_owned();
        host.status.task(0).set(TaskState::Failed { reason });
        assert_eq!(get(&host, "/readyz").0, 503);
    }

    #[test]
    fn health_metrics_and_what_is_not_there() {
        let host = host();
        host.status.task(0).set(TaskState::Running);
        assert_eq!(get(&host, "/healthz").0, 200);
        let (code, metrics) = get(&host, "/metrics");
        assert_eq!(code, 200);
        assert!(
            metrics.contains(r#"weir_task_state{pipeline="visits",task="0",state="running"} 1.0"#)
        );
        let (code, body) = get(&host, "/nowhere");
        assert_eq!(code, 404);
        assert_eq!(
            body,
            r#"{"error_code":404,"message":"there is nothing at /nowhere"}"#
        );
        let request =
            "POST /readyz HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (code, body) = split(&send(host.server.address(), request));
        assert_eq!(code, 405);
        assert!(body.contains("error_code"));
    }

    #[test]
    fn a_head_that_is_too_large_is_refused_and_the_next_one_is_served() {
        let host = host();
        // Exactly the limit: the server reads all of it before it answers, so nothing is reset on the way.
        let head = "GET /healthz HTTP/1.1\r\nHost: weir\r\nPadding: ";
        let request = format!("{head:x<MAX_HEADER_BYTES$}");
        let (code, _) = split(&send(host.server.address(), &request));
        assert_eq!(code, 431);
        assert_eq!(get(&host, "/healthz").0, 200);
    }

    #[test]
    fn a_dropped_server_gives_its_port_back() {
        // An address that no other test binds, so that nobody takes the port in between.
        let listen = Listen::Address(([127, 83, 83, 83], 0).into());
        let bound = bind(listen).expect("a port").expect("not off");
        let server = bound
            .serve(with_fallbacks(Router::new()))
            .expect("a server");
        let address = server.address();
        assert_eq!(split(&send(address, "GET / HTTP/1.0\r\n\r\n")).0, 404);
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
