//! `weir up` as a child process: its start, what its log says, its drain.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::error::DemoError;

/// `shutdown_timeout` of the pipelines (30 s) and some time for `up` itself.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(40);
/// The log is cut off here; an hour of the demo writes far less.
const LOG_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Lines that wait to be shown: warnings, errors, diagnostics; older ones are in the log.
const COMPLAINTS_MAX: usize = 50;

/// What the log says so far.
#[derive(Debug, Clone, Default)]
pub struct HostLog {
    /// Where `weir up` itself serves `/readyz` and `/metrics` of all pipelines.
    pub http: Option<String>,
    pub pipelines: BTreeMap<String, PipelineLog>,
    complaints: VecDeque<String>,
}

/// What the log says about one pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineLog {
    /// `active` or `standby`, once its host is ready.
    pub role: Option<String>,
    /// Where its host serves `/readyz` and `/metrics`.
    pub http: Option<String>,
    /// How often a host of it became ready.
    pub starts: u32,
}

impl HostLog {
    /// Warnings, errors and diagnostics since the last call.
    pub fn take_complaints(&mut self) -> Vec<String> {
        self.complaints.drain(..).collect()
    }

    /// Reads one line. An event is JSON, with or without a prefix that names the pipeline; anything else is a diagnostic
    /// for people, which is shown as it is.
    pub fn read_line(&mut self, line: &str) {
        let json = line.find('{').and_then(|start| line.get(start..));
        let event = json.and_then(|json| serde_json::from_str::<Value>(json).ok());
        match event {
            Some(event) => self.read_event(&event),
            None => self.complain(line.to_owned()),
        }
    }

    fn read_event(&mut self, event: &Value) {
        let text = |name: &str| field(event, name).map(str::to_owned);
        match (text("event").as_deref(), text("pipeline")) {
            (Some("listening"), None) => self.http = text("http"),
            (Some("listening"), Some(name)) => {
                self.pipelines.entry(name).or_default().http = text("http");
            }
            (Some("ready"), Some(name)) => {
                let pipeline = self.pipelines.entry(name).or_default();
                pipeline.role = text("role");
                pipeline.http = text("http").or_else(|| pipeline.http.take());
                pipeline.starts += 1;
            }
            _ => {}
        }
        let level = text("level").unwrap_or_default();
        if matches!(level.as_str(), "WARN" | "ERROR" | "warn" | "error") {
            let message = text("message").unwrap_or_else(|| event.to_string());
            let pipeline = text("pipeline")
                .map(|name| format!("{name}: "))
                .unwrap_or_default();
            self.complain(format!("{} {pipeline}{message}", level.to_uppercase()));
        }
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        self.complaints.push_back(complaint);
    }
}

/// A text field of a log event, beside the level or among its fields.
fn field<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    let nested = || event.get("fields").and_then(|fields| fields.get(name));
    event.get(name).or_else(nested)?.as_str()
}

/// A running `weir up`.
pub struct Host {
    child: Child,
    log_path: PathBuf,
    readers: Vec<JoinHandle<()>>,
}

impl Host {
    /// Starts `weir up` in a process group of its own: a Ctrl-C in the terminal reaches the demo alone, which then drains
    /// the hosts in its own order.
    pub fn start(
        weir: &Path,
        topology: &Path,
        environment: &[(&str, String)],
        log_path: PathBuf,
        log: &Arc<Mutex<HostLog>>,
    ) -> Result<Self, DemoError> {
        let file = File::create(&log_path).map_err(|cause| DemoError::Io {
            what: "the log of `weir up` cannot be written",
            cause,
        })?;
        let mut child = Command::new(weir)
            .arg("up")
            .arg("--file")
            .arg(topology)
            .args(["--log-format", "json"])
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|cause| DemoError::HostStart {
                path: weir.to_owned(),
                cause,
            })?;
        let file = Arc::new(Mutex::new(BoundedLog { file, bytes: 0 }));
        let outputs: [Option<Box<dyn io::Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as _),
            child.stderr.take().map(|output| Box::new(output) as _),
        ];
        let readers = outputs
            .into_iter()
            .flatten()
            .map(|output| {
                let (file, log) = (Arc::clone(&file), Arc::clone(log));
                std::thread::spawn(move || copy_log(output, &file, &log))
            })
            .collect();
        Ok(Self {
            child,
            log_path,
            readers,
        })
    }

    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, DemoError> {
        self.child.try_wait().map_err(wait_failed)
    }

    /// SIGTERM, then waits for the drain; a host that does not end in time is killed.
    pub fn drain(&mut self) -> Result<ExitStatus, DemoError> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if Instant::now() >= deadline {
                self.child.kill().map_err(wait_failed)?;
                break self.child.wait().map_err(wait_failed)?;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        for reader in self.readers.drain(..) {
            // A reader that panicked has lost log lines only.
            let _ = reader.join();
        }
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // The child has not been waited for, so the id is still its own; it may have ended already.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Host {
    /// On an early end of the demo: the hosts still get their drain.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.drain();
        }
    }
}

fn wait_failed(cause: io::Error) -> DemoError {
    DemoError::Io {
        what: "`weir up` cannot be waited for",
        cause,
    }
}

struct BoundedLog {
    file: File,
    bytes: u64,
}

impl BoundedLog {
    fn write_line(&mut self, line: &str) {
        let bytes = line.len() as u64 + 1;
        if self.bytes + bytes <= LOG_MAX_BYTES {
            self.bytes += bytes;
            // A full disk must not stop the reading: the child would block on its pipe.
            let _ = writeln!(self.file, "{line}");
        }
    }
}

fn copy_log(output: impl io::Read, file: &Mutex<BoundedLog>, log: &Mutex<HostLog>) {
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else {
            return;
        };
        let line = String::from_utf8_lossy(&line);
        file.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_line(&line);
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read_line(&line);
    }
}

#[cfg(test)]
mod tests;
