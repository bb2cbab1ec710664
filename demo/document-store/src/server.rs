//! The listener on its own thread, and the handle that tests and the demo hold.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::connection::{Connection, ResetSwitch};
use crate::faults::Faults;
use crate::observations::Observations;
use crate::routes;
use crate::storage::{Document, Storage};

/// Clients beyond this wait in the kernel's backlog. A sink keeps some ten connections, a browser six.
const CONNECTIONS_MAX: usize = 256;

/// Limits and behaviour of a store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    pub authentication: Authentication,
    /// Largest request body without its content encoding, `http.max_content_length` of Elasticsearch. Default 100 MB,
    /// as there.
    pub body_max_bytes: usize,
    pub oversize_answer: OversizeAnswer,
    /// Default 100,000: a demo writes one document a minute, a fault test some thousand.
    pub documents_max: usize,
    /// Ids and sources of all documents together. Default 64 MiB.
    pub bytes_max: usize,
    /// How many bulk requests [`Observations`] keeps, with their bodies. Default 10,000; 0 keeps none.
    pub observed_bulks_max: usize,
    /// Decoded bodies of the kept requests together; the newest is kept whatever its size. Default 256 MiB.
    pub observed_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            authentication: Authentication::None,
            body_max_bytes: 100 * 1024 * 1024,
            oversize_answer: OversizeAnswer::Status413,
            documents_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            observed_bulks_max: 10_000,
            observed_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// Who may use the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    None,
    Basic {
        username: String,
        password: String,
    },
    /// The key as it stands in the header: base64 of `id:key`.
    ApiKey {
        encoded: String,
    },
    Bearer {
        token: String,
    },
}

/// What a body above the limit gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OversizeAnswer {
    Status413,
    /// The connection is reset while the client still writes, as some servers and proxies do.
    Reset,
}

/// Why a store does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the document store cannot listen on {address}: {cause}; choose another port")]
    Listen {
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("the document store's thread cannot start: {cause}")]
    Thread { cause: io::Error },
    #[error("the document store's thread has ended; start a new store")]
    Ended,
}

/// What the handle and the server thread share.
pub(crate) struct Shared {
    pub settings: Settings,
    pub faults: Faults,
    pub observations: Arc<Observations>,
    /// Told after each bulk that was applied.
    pub stored: Condvar,
    storage: Mutex<Storage>,
    authentication: Mutex<Authentication>,
    stops: watch::Sender<u64>,
}

impl Shared {
    pub fn storage(&self) -> MutexGuard<'_, Storage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn authentication(&self) -> Authentication {
        self.authentication
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes when the store stops: what has not been applied by then never is.
    pub fn stops(&self) -> watch::Receiver<u64> {
        self.stops.subscribe()
    }
}

/// Each command waits for its answer, so there is at most one of a handle's threads in the queue.
enum Command {
    Listen(StdListener, SyncSender<io::Result<()>>),
    Stop(SyncSender<()>),
}

/// A running store. Dropping it ends its thread and closes its connections.
pub struct DocumentStore {
    shared: Arc<Shared>,
    address: SocketAddr,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl DocumentStore {
    /// Starts a store that listens on 127.0.0.1.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let failed = |cause| StartError::Listen {
            address: wanted,
            cause,
        };
        let listener = StdListener::bind(wanted).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            storage: Mutex::new(Storage::new(settings.documents_max, settings.bytes_max)),
            observations: Arc::new(Observations::new(
                settings.observed_bulks_max,
                settings.observed_bytes_max,
            )),
            authentication: Mutex::new(settings.authentication.clone()),
            settings,
            faults: Faults::default(),
            stored: Condvar::new(),
            stops: watch::Sender::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| StartError::Thread { cause })?;
        let (commands, received) = mpsc::unbounded_channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("document-store".to_owned())
            .spawn(move || runtime.block_on(serve(serving, received)))
            .map_err(|cause| StartError::Thread { cause })?;
        let store = Self {
            shared,
            address,
            commands: Some(commands),
            thread: Some(thread),
        };
        store.hand_over(listener)?;
        Ok(store)
    }

    /// `http://127.0.0.1:PORT`, the same through every stop and start.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    pub fn observations(&self) -> &Observations {
        &self.shared.observations
    }

    /// Closes the listener and every connection: clients are refused. What was received and not applied is forgotten; the
    /// documents stay.
    pub fn stop_listening(&self) {
        self.shared.stops.send_modify(|stops| *stops += 1);
        let (done, stopped) = sync_channel(1);
        if self.send(Command::Stop(done)) {
            // An ended thread has no listener either.
            let _ = stopped.recv();
        }
    }

    /// Listens again on the same port.
    pub fn listen_again(&self) -> Result<(), StartError> {
        self.stop_listening();
        let listener = StdListener::bind(self.address).map_err(|cause| StartError::Listen {
            address: self.address,
            cause,
        })?;
        self.hand_over(listener)
    }

    /// Changes who may use the store from the next request on.
    pub fn set_authentication(&self, authentication: Authentication) {
        let mut current = self
            .shared
            .authentication
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = authentication;
    }

    /// Makes an alias whose writes go to `write_index`, or nowhere; an older one of that name is replaced.
    pub fn put_alias(&self, alias: &str, write_index: Option<&str>) {
        self.shared.storage().put_alias(alias, write_index);
    }

    /// Makes a data stream with one backing index, which bears its name here.
    pub fn create_data_stream(&self, name: &str) {
        self.shared.storage().create_data_stream(name);
    }

    /// Whether a write to an index that is not there creates it (`action.auto_create_index`).
    pub fn set_auto_create(&self, on: bool) {
        self.shared.storage().set_auto_create(on);
    }

    /// How long the version of a delete is remembered (`index.gc_deletes`); 60 s until it is set.
    pub fn set_gc_deletes(&self, gc_deletes: Duration) {
        self.shared.storage().set_gc_deletes(gc_deletes);
    }

    pub fn create_index(&self, name: &str) {
        self.shared.storage().create_index(name);
    }

    pub fn document(&self, index: &str, id: &str) -> Option<Document> {
        self.shared.storage().index(index)?.document(id).cloned()
    }

    /// An index's documents in the order in which they were last written; none if there is no such index.
    pub fn documents(&self, index: &str) -> Vec<Document> {
        match self.shared.storage().index(index) {
            Some(index) => index.documents().into_iter().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Waits until the index's documents meet `condition`; false if `deadline` passes first.
    pub fn wait_for_documents(
        &self,
        index: &str,
        deadline: Duration,
        condition: impl Fn(&[&Document]) -> bool,
    ) -> bool {
        let unmet = |storage: &mut Storage| match storage.index(index) {
            Some(index) => !condition(&index.documents()),
            None => !condition(&[]),
        };
        let waited = self
            .shared
            .stored
            .wait_timeout_while(self.shared.storage(), deadline, unmet)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    fn hand_over(&self, listener: StdListener) -> Result<(), StartError> {
        let (done, listening) = sync_channel(1);
        if !self.send(Command::Listen(listener, done)) {
            return Err(StartError::Ended);
        }
        match listening.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(StartError::Listen {
                address: self.address,
                cause,
            }),
            Err(_) => Err(StartError::Ended),
        }
    }

    fn send(&self, command: Command) -> bool {
        self.commands
            .as_ref()
            .is_some_and(|commands| commands.send(command).is_ok())
    }
}

impl Drop for DocumentStore {
    fn drop(&mut self) {
        // The server ends when its last command sender is gone.
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves connections as the commands say, until there can be no further command.
async fn serve(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut listener: Option<TcpListener> = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(bound, done)) => {
                    let opened = open(bound).map(|opened| listener = Some(opened));
                    let _ = done.send(opened);
                }
                Some(Command::Stop(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                None => return,
            },
            stream = accept(listener.as_ref()), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(serve_connection(Arc::clone(&shared), stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn open(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The next client; waits for ever where nothing listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            return stream;
        }
        // Out of file descriptors, most likely: give others the time to close theirs.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: TcpStream) {
    let switch = ResetSwitch::default();
    // Without it the last small packet of an answer waits for an acknowledgement; a refusal costs latency only.
    let _ = stream.set_nodelay(true);
    let connection = TokioIo::new(Connection::new(stream, switch.clone()));
    let service =
        service_fn(|request| routes::handle(Arc::clone(&shared), request, switch.clone()));
    // How a connection ends is the client's affair or the script's.
    let _ = http1::Builder::new()
        .serve_connection(connection, service)
        .await;
}
