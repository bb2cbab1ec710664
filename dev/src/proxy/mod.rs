//! A TCP proxy on loopback as a fault tool: what a network does to a client, on demand.

mod pump;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::servers::free_ports;

/// How often a listener looks for a connection, and for a change: far below every timeout of a client.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(5);
const PORT_ATTEMPTS: usize = 5;

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Open,
    /// Connections are accepted and stay, and nothing passes; what is under way passes later.
    Silent,
    /// Every piece of at most 64 KiB waits this long, in each direction.
    Slow(Duration),
    /// Every connection is dropped, and new ones are refused.
    Cut,
}

/// Forwards a port of its own to a server until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

/// Between the proxy, its listener and its connections.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    path: Path,
    is_over: bool,
    last_connection: u64,
    /// Both ends of each connection that lives.
    connections: BTreeMap<u64, (TcpStream, TcpStream)>,
}

impl Proxy {
    /// Listens on a free port of loopback and forwards to `127.0.0.1:upstream_port`, where nobody has to listen yet.
    ///
    /// # Errors
    /// No port is free.
    pub fn to(upstream_port: u16) -> Result<Proxy> {
        let mut attempts = PORT_ATTEMPTS;
        loop {
            let [port] = free_ports()?;
            attempts -= 1;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => return Proxy::on(listener, port, upstream_port),
                Err(error) if attempts == 0 => {
                    return Err(error).context("no free port for a proxy");
                }
                Err(_) => {}
            }
        }
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on; [`Path::Open`] heals.
    pub fn set(&self, path: Path) {
        let mut state = self.shared.lock();
        state.path = path;
        if path == Path::Cut {
            state.drop_connections();
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn on(listener: TcpListener, port: u16, upstream_port: u16) -> Result<Proxy> {
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            upstream: SocketAddr::from((Ipv4Addr::LOCALHOST, upstream_port)),
            state: Mutex::new(State {
                path: Path::Open,
                is_over: false,
                last_connection: 0,
                connections: BTreeMap::new(),
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || accepting.accept_all(listener, port))?;
        Ok(Proxy {
            shared,
            port,
            acceptor: Some(acceptor),
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        state.drop_connections();
        drop(state);
        self.shared.changed.notify_all();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    /// The pumps that read from them see their end.
    fn drop_connections(&mut self) {
        for (client, server) in std::mem::take(&mut self.connections).into_values() {
            for stream in [client, server] {
                // An error means that the peer was faster.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections while the path is not cut; a cut closes the listener, so that the kernel refuses.
    fn accept_all(self: &Arc<Self>, listener: TcpListener, port: u16) {
        let mut listener = Some(listener);
        loop {
            let state = self.lock();
            if state.is_over {
                return;
            }
            let is_cut = state.path == Path::Cut;
            let waited = self.changed.wait_timeout(state, ACCEPT_INTERVAL);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            match (&listener, is_cut) {
                (Some(_), true) => listener = None,
                (None, true) => {}
                // Someone may still hold the port for a moment: tried again in the next round.
                (None, false) => listener = bind(port).ok(),
                (Some(open), false) => {
                    while let Ok((client, _)) = open.accept() {
                        // A server that is down: the client sees its connection closed.
                        let _ = self.connect(client);
                    }
                }
            }
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        // Whether it is inherited from the listener depends on the system.
        client.set_nonblocking(false)?;
        let server = TcpStream::connect(self.upstream)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let ends = (client.try_clone()?, server.try_clone()?);
        let mut state = self.lock();
        if state.path == Path::Cut || state.is_over {
            return Ok(());
        }
        state.last_connection += 1;
        let id = state.last_connection;
        state.connections.insert(id, ends);
        drop(state);
        pump::spawn(self, id, client, server)
    }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
