//! One host process and its restarts.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::backoff::{Backoff, RestartPolicy};
use super::{News, output};
use crate::log::Printer;

/// How a host is started.
#[derive(Debug)]
pub(super) struct HostCommand {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) with_http: bool,
}

impl HostCommand {
    fn of(&self, pipeline: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["run", pipeline])
            .args(&self.arguments)
            .args(["--log-format", "json"])
            .args(["--http", if self.with_http { "127.0.0.1:0" } else { "off" }])
            .args(["--parent-pid", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C reaches a terminal's whole process group. The hosts leave it, or they would get SIGINT from
            // the terminal and SIGTERM from here: two signals, which end a host without draining.
            .process_group(0);
        command
    }
}

/// That a host's process has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) host: usize,
    pub(super) status: ExitStatus,
}

#[derive(Debug)]
pub(super) struct Host {
    place: usize,
    pipeline: String,
    command: Arc<HostCommand>,
    backoff: Backoff,
    printer: Printer,
    phase: Phase,
    runs: u64,
    uptime: Duration,
}

#[derive(Debug)]
enum Phase {
    /// Waiting to be started.
    Due(Instant),
    Alive {
        child: Child,
        since: Instant,
    },
    /// Ended, and nothing will start it again.
    Stopped,
}

impl Host {
    /// A host that is due at once.
    pub(super) fn new(
        place: usize,
        pipeline: String,
        command: Arc<HostCommand>,
        restart: RestartPolicy,
        printer: Printer,
    ) -> Self {
        Self {
            place,
            pipeline,
            command,
            backoff: Backoff::new(restart),
            printer,
            phase: Phase::Due(Instant::now()),
            runs: 0,
            uptime: Duration::ZERO,
        }
    }

    pub(super) fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// How often it was started.
    pub(super) fn runs(&self) -> u64 {
        self.runs
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Alive { .. })
    }

    /// When it is to be started; `None` while it lives or when it never will be.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Due(due) => Some(due),
            Phase::Alive { .. } | Phase::Stopped => None,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// Starts the process and the reader of its log, and returns the process id.
    pub(super) fn start(&mut self, news: &Sender<News>, now: Instant) -> io::Result<u32> {
        self.uptime = Duration::ZERO;
        let mut child = self.command.of(&self.pipeline).spawn()?;
        self.runs += 1;
        let pid = child.id();
        let log = child.stderr.take();
        // From here on the process is this host's to end, whatever happens to its log.
        self.phase = Phase::Alive { child, since: now };
        if let Some(log) = log {
            let reader = output::HostLog {
                host: self.place,
                run: self.runs,
                pipeline: self.pipeline.clone(),
                printer: self.printer.clone(),
                news: news.clone(),
            };
            if let Err(error) = reader.read_in_thread(log) {
                self.kill();
                self.wait();
                return Err(error);
            }
        }
        Ok(pid)
    }

    /// Takes the process's end, if it came since the last call.
    pub(super) fn reap(&mut self, now: Instant) -> Option<Ended> {
        let Phase::Alive { child, since } = &mut self.phase else {
            return None;
        };
        // An error means that there is no such child, which cannot be while this holds it.
        let status = child.try_wait().ok().flatten()?;
        self.uptime = now.saturating_duration_since(*since);
        self.phase = Phase::Stopped;
        Some(Ended {
            host: self.place,
            status,
        })
    }

    /// Plans the next start and returns the pause before it.
    pub(super) fn restart_later(&mut self, now: Instant) -> Duration {
        let pause = self.backoff.pause_after(self.uptime);
        self.phase = Phase::Due(now + pause);
        pause
    }

    /// Never starts it again. The process, if it lives, goes on.
    pub(super) fn stop(&mut self) {
        if !self.is_alive() {
            self.phase = Phase::Stopped;
        }
    }

    /// Asks the process to drain, and never starts it again.
    pub(super) fn drain(&mut self) {
        self.signal(Signal::TERM);
        self.stop();
    }

    /// Ends the process at once.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    fn wait(&mut self) {
        if let Phase::Alive { child, .. } = &mut self.phase {
            let _ = child.wait();
        }
        self.phase = Phase::Stopped;
    }

    fn signal(&self, signal: Signal) {
        let Phase::Alive { child, .. } = &self.phase else {
            return;
        };
        // The process id is still ours: only `reap` and `wait` give it back, and both leave this phase.
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(pipeline = self.pipeline, %error, "a host could not be signalled");
        }
    }
}

/// Whether a host that was asked to drain has done so. One that died of the SIGTERM itself was asked before it had a
/// handler, so it had begun nothing.
pub(super) fn is_drained(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}
