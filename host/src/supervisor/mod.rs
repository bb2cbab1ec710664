//! `weir up`: one host process per pipeline, started again when it dies.
//!
//! Everything happens on the thread that calls [`run`], which must be the main thread: the kernel signals a host when
//! the *thread* that started it ends, and the main thread ends with the process. Threads beside it only bring news:
//! one reads signals, one per host reads its log, one serves HTTP.

mod backoff;
mod board;
mod host;
mod output;
mod routes;

pub use backoff::RestartPolicy;
pub use routes::{HOST_ANSWER_TIMEOUT, MAX_HOST_ANSWER_BYTES};

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;

use crate::http::{BoundListener, HttpError};
use crate::log::{self, Level, Printer};
use board::Board;
use host::{Ended, Host};

/// What a host gets beyond the longest `shutdown_timeout` before it is killed: it ends by itself at that timeout, and
/// the machine may be slow.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// How long the last lines of ended hosts are waited for. Only a process that a host left behind makes it last.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two looks when nothing is due and no news comes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit code of a host, and of `up`, for what was refused before it started.
const EXIT_REFUSED: u8 = 2;
const EXIT_FAILED: u8 = 1;

/// What `weir up` supervises and how.
#[derive(Debug)]
pub struct Settings {
    /// The program that runs a host: this one.
    pub program: PathBuf,
    /// What every host gets after `run PIPELINE`.
    pub arguments: Vec<OsString>,
    /// The pipelines, one host each.
    pub pipelines: Vec<String>,
    /// When a host that died is started again.
    pub restart: RestartPolicy,
    /// How long all hosts together may take to drain before they are killed.
    pub drain_timeout: Duration,
    /// Where all of them are served together; `None` for no HTTP, in the hosts neither.
    pub http: Option<BoundListener>,
}

impl Settings {
    /// The settings of `weir up -f FILE`.
    ///
    /// # Errors
    /// The path of the running program cannot be found.
    pub fn new(
        file: &Path,
        log_level: Level,
        pipelines: Vec<String>,
        longest_shutdown_timeout: Duration,
        http: Option<BoundListener>,
    ) -> Result<Self, UpError> {
        let arguments = [
            "--log-level".into(),
            log_level.name().into(),
            "--file".into(),
            file.into(),
        ];
        Ok(Self {
            program: std::env::current_exe().map_err(UpError::Program)?,
            arguments: arguments.to_vec(),
            pipelines,
            restart: RestartPolicy::default(),
            drain_timeout: longest_shutdown_timeout + DRAIN_MARGIN,
            http,
        })
    }
}

/// Why `weir up` cannot begin.
#[derive(Debug, Error)]
pub enum UpError {
    /// No path to the running program.
    #[error("the path of the running program cannot be found: {0}; mount /proc")]
    Program(io::Error),
    /// No signal handler or no thread.
    #[error("signals cannot be received: {0}; free threads or file descriptors of this machine")]
    Signals(io::Error),
    /// HTTP cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl UpError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            UpError::Program(_) => "up.program",
            UpError::Signals(_) => "up.signals",
            UpError::Http(error) => error.code(),
        }
    }
}

/// What the threads beside tell the main one.
#[derive(Debug)]
enum News {
    /// A signal came: SIGTERM, SIGINT or SIGCHLD.
    Signal(i32),
    /// A host's log names the address of its HTTP. `run` tells which start of the host it was.
    Listening {
        host: usize,
        run: u64,
        http: std::net::SocketAddr,
    },
    /// A host's log has ended.
    LogEnded,
}

/// Supervises until every host has ended, and returns the exit code: 0 drained after a signal, 1 not all drained or
/// ended by a second signal, 2 a host was refused. The reason of 1 and 2 is the last line on stderr. Call it on the
/// main thread, once in a process.
///
/// # Errors
/// Nothing was started.
pub fn run(settings: Settings, printer: Printer) -> Result<u8, UpError> {
    let (sender, news) = mpsc::channel();
    receive_signals(sender.clone())?;
    let board = Arc::new(Board::new(&settings.pipelines));
    let with_http = settings.http.is_some();
    let server = match settings.http {
        Some(bound) => Some(bound.serve(routes::router(Arc::clone(&board)))?),
        None => None,
    };
    let command = Arc::new(host::HostCommand {
        program: settings.program,
        arguments: settings.arguments,
        with_http,
    });
    let hosts = (0..).zip(settings.pipelines).map(|(place, pipeline)| {
        Host::new(
            place,
            pipeline,
            Arc::clone(&command),
            settings.restart,
            printer.clone(),
        )
    });
    let supervisor = Supervisor {
        hosts: hosts.collect(),
        board,
        sender,
        news,
        drain_timeout: settings.drain_timeout,
        drain: None,
        open_logs: 0,
    };
    let exit_code = supervisor.run();
    drop(server);
    Ok(exit_code)
}

fn receive_signals(sender: Sender<News>) -> Result<(), UpError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).map_err(UpError::Signals)?;
    let forward = move || {
        for signal in signals.forever() {
            if sender.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("weir-signals".to_owned())
        .spawn(forward)
        .map_err(UpError::Signals)?;
    Ok(())
}

struct Supervisor {
    hosts: Vec<Host>,
    board: Arc<Board>,
    sender: Sender<News>,
    news: Receiver<News>,
    drain_timeout: Duration,
    drain: Option<Drain>,
    open_logs: usize,
}

/// The end of everything, once it has begun.
struct Drain {
    deadline: Instant,
    exit_code: u8,
    /// The last line on stderr, where the exit code is not 0.
    reason: Option<String>,
}

impl Supervisor {
    fn run(mut self) -> u8 {
        loop {
            self.reap();
            let now = Instant::now();
            match &self.drain {
                None => self.start_due(now),
                Some(_) if !self.hosts.iter().any(Host::is_alive) => break,
                Some(drain) if drain.deadline <= now => {
                    self.kill_all("not every host drained in time")
                }
                Some(_) => {}
            }
            match self.news.recv_timeout(self.until_due(now)) {
                Ok(News::Signal(SIGCHLD)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Signal(signal)) => self.receive(signal),
                Ok(News::Listening { host, run, http }) => self.note_address(host, run, http),
                Ok(News::LogEnded) => self.open_logs = self.open_logs.saturating_sub(1),
                // This end holds a sender itself, so the channel cannot close.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.finish()
    }

    fn reap(&mut self) {
        let mut ended = Vec::new();
        for host in &mut self.hosts {
            ended.extend(host.reap(Instant::now()));
        }
        for end in ended {
            self.judge(end);
        }
    }

    fn judge(&mut self, end: Ended) {
        let Ended { host, status } = end;
        let Some(host) = self.hosts.get_mut(host) else {
            return;
        };
        let pipeline = host.pipeline().to_owned();
        let is_refused = status.code() == Some(i32::from(EXIT_REFUSED));
        self.board
            .set_down(&pipeline, format!("the host ended with {status}"));
        if let Some(drain) = &mut self.drain {
            host.stop();
            tracing::info!(event = "host_ended", pipeline, %status, "a host has ended");
            if is_refused {
                drain.worsen(EXIT_REFUSED, format!("the host of {pipeline} was refused"));
            } else if !host::is_drained(status) {
                drain.worsen(
                    EXIT_FAILED,
                    format!("the host of {pipeline} ended with {status}"),
                );
            }
        } else if is_refused {
            host.stop();
            tracing::error!(
                event = "host_refused",
                pipeline,
                "a host was refused; draining the others"
            );
            let reason = format!("the host of {pipeline} was refused; its own lines say why");
            self.begin_drain(EXIT_REFUSED, Some(reason));
        } else {
            let pause = host.restart_later(Instant::now());
            let restart_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::error!(
                event = "host_ended",
                pipeline,
                %status,
                restart_in_ms,
                "a host has ended and will be started again"
            );
        }
    }

    fn start_due(&mut self, now: Instant) {
        for host in self.hosts.iter_mut().filter(|host| host.is_due(now)) {
            match host.start(&self.sender, now) {
                Ok(pid) => {
                    self.open_logs += 1;
                    self.board.set_started(host.pipeline(), host.runs());
                    tracing::info!(
                        event = "host_started",
                        pipeline = host.pipeline(),
                        pid,
                        "a host was started"
                    );
                }
                Err(error) => {
                    let pause = host.restart_later(now).as_secs_f64();
                    self.board.set_down(
                        host.pipeline(),
                        format!("the host cannot be started: {error}"),
                    );
                    tracing::error!(
                        event = "host_not_started",
                        pipeline = host.pipeline(),
                        %error,
                        "a host cannot be started; trying again in {pause} s"
                    );
                }
            }
        }
    }

    fn receive(&mut self, signal: i32) {
        let signal = if signal == SIGINT {
            "SIGINT"
        } else {
            "SIGTERM"
        };
        if self.drain.is_some() {
            self.kill_all("a second signal ended the hosts before they had drained");
        } else {
            tracing::info!(
                event = "draining",
                signal,
                "draining every host; a second signal ends them at once"
            );
            self.begin_drain(0, None);
        }
    }

    fn begin_drain(&mut self, exit_code: u8, reason: Option<String>) {
        self.drain = Some(Drain {
            deadline: Instant::now() + self.drain_timeout,
            exit_code,
            reason,
        });
        for host in &mut self.hosts {
            host.drain();
        }
    }

    fn kill_all(&mut self, reason: &str) {
        if let Some(drain) = &mut self.drain {
            drain.worsen(EXIT_FAILED, reason.to_owned());
            // Killed hosts end at once; this only keeps the loop from killing them again at every turn.
            drain.deadline = Instant::now() + self.drain_timeout;
        }
        for host in &mut self.hosts {
            host.kill();
        }
    }

    fn note_address(&self, host: usize, run: u64, http: std::net::SocketAddr) {
        let host = self
            .hosts
            .get(host)
            .filter(|host| host.is_alive() && host.runs() == run);
        if let Some(host) = host {
            self.board.set_listening(host.pipeline(), http);
        }
    }

    /// How long the loop may wait for news.
    fn until_due(&self, now: Instant) -> Duration {
        let due = match &self.drain {
            Some(drain) => Some(drain.deadline),
            None => self.hosts.iter().filter_map(Host::due).min(),
        };
        due.map_or(IDLE_TIMEOUT, |due| {
            due.saturating_duration_since(now).min(IDLE_TIMEOUT)
        })
    }

    /// Lets the last lines of the hosts out before the last line of all.
    fn finish(mut self) -> u8 {
        let deadline = Instant::now() + LAST_LINES_TIMEOUT;
        while self.open_logs > 0 {
            match self
                .news
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(News::LogEnded) => self.open_logs -= 1,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let Some(drain) = self.drain else {
            return EXIT_FAILED;
        };
        if let Some(reason) = drain.reason {
            log::say(&format!("weir: {reason}"));
        }
        drain.exit_code
    }
}

impl Drain {
    /// Takes another exit code unless one that is not 0 stands already: the first cause counts.
    fn worsen(&mut self, exit_code: u8, reason: String) {
        if self.exit_code == 0 {
            self.exit_code = exit_code;
            self.reason = Some(reason);
        }
    }
}
