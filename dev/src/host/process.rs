//! One `weir` process: started, watched, signalled, ended.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{self, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::client::wait_until;
use crate::processes;
use crate::servers::Guarded;

use super::folder::Folder;
use super::log::{Log, object};
use super::metrics::Metrics;

/// Ready takes a second; a debug build on shared cores under a full build has taken far longer.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// The drain deadline of a host is 30 s by default, and it must keep it.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// The pipes of a process that has ended are read out at once.
const READ_OUT_TIMEOUT: Duration = Duration::from_secs(10);
const SHOWN_LINES: usize = 60;

/// What can be sent to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    fn raw(self) -> rustix::process::Signal {
        match self {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
        }
    }
}

/// What to run: `weir` with arguments and environment, in a folder.
#[derive(Debug)]
pub struct Command<'a> {
    folder: &'a Folder,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What the `ready` event of a host said.
#[derive(Debug, Clone)]
pub struct Ready {
    pub pipeline: String,
    /// `active` or `standby`.
    pub role: String,
    /// `host:port`, unless HTTP is off.
    pub http: Option<String>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// 128 + the number of the signal, if one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// What `weir validate --format json` found: code and message of each.
    pub fn diagnostics(&self) -> Result<Vec<(String, String)>> {
        let found: Vec<Value> =
            serde_json::from_str(&self.stdout).with_context(|| format!("no list in {self:?}"))?;
        let text = |of: &Value| of.as_str().map(str::to_owned).unwrap_or_default();
        let found = found.iter();
        Ok(found
            .map(|of| (text(&of["code"]), text(&of["message"])))
            .collect())
    }
}

/// A running host. Dropping it kills it.
#[derive(Debug)]
pub struct Host {
    process: Guarded,
    program: PathBuf,
    /// What the host writes to stderr.
    pub log: Log,
    /// What the host writes to stdout.
    pub output: Log,
    readers: Vec<JoinHandle<()>>,
}

impl<'a> Command<'a> {
    /// `weir ARGUMENTS...` on the folder's topology, with JSON logs.
    pub fn new(folder: &'a Folder, arguments: &[&str]) -> Command<'a> {
        Command {
            folder,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            environment: Vec::new(),
        }
    }

    /// `weir run PIPELINE`.
    pub fn run(folder: &'a Folder, pipeline: &str) -> Command<'a> {
        Command::new(folder, &["run", pipeline])
    }

    pub fn argument(mut self, argument: &str) -> Command<'a> {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Command<'a> {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and goes on.
    pub fn start(self) -> Result<Host> {
        let folder = self.folder;
        let mut process = Guarded::spawn(folder.program(), |command| {
            command
                .args(&self.arguments)
                .arg("--file")
                .arg(folder.topology())
                .args(["--log-format", "json"])
                .envs(self.environment)
                .env("NO_COLOR", "1")
                .current_dir(folder.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        })
        .with_context(|| format!("cannot start {}", folder.program().display()))?;
        let (log, output) = (Log::default(), Log::default());
        let child = process.child_mut();
        let stderr = child.stderr.take().context("stderr is not captured")?;
        let stdout = child.stdout.take().context("stdout is not captured")?;
        let readers = vec![log.collect(stderr), output.collect(stdout)];
        Ok(Host {
            process,
            program: folder.program().to_owned(),
            log,
            output,
            readers,
        })
    }

    /// Starts it and waits until it is ready.
    pub fn start_ready(self) -> Result<Host> {
        let host = self.start()?;
        host.wait_ready()?;
        Ok(host)
    }

    /// Runs a command that ends by itself.
    pub fn output(self) -> Result<Ended> {
        let mut command = process::Command::new(self.folder.program());
        let output = command
            .args(&self.arguments)
            .arg("--file")
            .arg(self.folder.topology())
            .envs(self.environment)
            .env("NO_COLOR", "1")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .context("cannot run weir")?;
        Ok(Ended {
            code: exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl Host {
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The hosts that this supervisor has started and that still run.
    pub fn children(&self) -> Result<Vec<u32>> {
        let program = fs::canonicalize(&self.program)?;
        let is_host =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).ok() == Some(program.clone());
        let all = processes::all()?.into_iter();
        Ok(all
            .filter(|(_, process)| process.parent == self.id())
            .map(|(pid, _)| pid)
            .filter(is_host)
            .collect())
    }

    /// Waits for the `ready` event.
    pub fn wait_ready(&self) -> Result<Ready> {
        let event = self.wait_event("ready", READY_TIMEOUT)?;
        let text = |name: &str| {
            let value = event.get(name).and_then(Value::as_str);
            value.map(str::to_owned)
        };
        Ok(Ready {
            pipeline: text("pipeline").context("the ready event names no pipeline")?,
            role: text("role").context("the ready event names no role")?,
            http: text("http"),
        })
    }

    /// Waits for the first log line with this `event`.
    pub fn wait_event(&self, event: &str, timeout: Duration) -> Result<Value> {
        let is_wanted = |line: &str| {
            object(line).filter(|o| o.get("event").and_then(Value::as_str) == Some(event))
        };
        self.log.wait_for(timeout, is_wanted).ok_or_else(|| {
            anyhow!(
                "no event {event:?} within {} s; the log ends:\n{}",
                timeout.as_secs(),
                self.log.tail(SHOWN_LINES)
            )
        })
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal.raw())
    }

    /// Waits until the process stands still (SIGSTOP).
    pub fn wait_stopped(&self, timeout: Duration) -> Result<()> {
        wait_until("the host to stand still", timeout, || {
            let all = processes::all().map_err(|error| format!("{error:#}"))?;
            let state = all.get(&self.id()).map(|process| process.state);
            (state == Some('T'))
                .then_some(())
                .ok_or(format!("{state:?}"))
        })
    }

    /// The exit code, if it has ended.
    pub fn try_exit(&mut self) -> Result<Option<i32>> {
        Ok(self.process.try_wait()?.map(exit_code))
    }

    /// Waits for the end and gives the exit code (128 + number for a signal) with all log lines read.
    pub fn wait_exit(&mut self) -> Result<i32> {
        let status = self
            .process
            .wait(END_TIMEOUT)
            .with_context(|| format!("the log ends:\n{}", self.log.tail(SHOWN_LINES)))?;
        // Bounded: a child of the host that outlived it would hold the pipes open.
        let deadline = Instant::now() + READ_OUT_TIMEOUT;
        while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(exit_code(status))
    }

    /// SIGTERM, and the exit code after the drain.
    pub fn drain(&mut self) -> Result<i32> {
        self.signal(Signal::Terminate)?;
        self.wait_exit()
    }

    /// SIGKILL, and the end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.wait_exit().map(drop)
    }

    /// `GET path` on the host's HTTP address: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let address = self.wait_ready()?.http.context("HTTP is off")?;
        get(&address, path)
    }

    /// The metrics of this moment.
    pub fn metrics(&self) -> Result<Metrics> {
        match self.get("/metrics")? {
            (200, text) => Ok(Metrics::parse(&text)),
            (status, text) => bail!("/metrics was answered {status}: {text}"),
        }
    }

    /// Waits until the account of source records balances with nothing pending, and gives the
    /// metrics of that moment.
    pub fn wait_balanced(&self, source_records: f64) -> Result<Metrics> {
        wait_until("the account to balance", END_TIMEOUT, || {
            let metrics = self.metrics().map_err(|e| format!("{e:#}"))?;
            let pending = metrics.sum("weir_records_pending", &[]);
            let read = metrics.sum("weir_source_records_total", &[]);
            if metrics.imbalance() == 0.0 && pending == 0.0 && read >= source_records {
                return Ok(metrics);
            }
            let off = metrics.imbalance();
            Err(format!("{read} read, {pending} pending, {off} off balance"))
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            let id = self.id();
            eprintln!("host {id}: the log ends:\n{}", self.log.tail(SHOWN_LINES));
        }
    }
}

/// `GET path` at `host:port`: status and body.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let mut response = agent.get(format!("http://{address}{path}")).call()?;
    let mut body = String::new();
    response.body_mut().as_reader().read_to_string(&mut body)?;
    Ok((response.status().as_u16(), body))
}

fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}
