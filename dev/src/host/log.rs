//! The lines of a running host, collected as they come.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One output of a process. Clones share the lines.
#[derive(Debug, Clone, Default)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Log {
    /// Collects lines until the writer closes its end.
    pub(crate) fn collect(&self, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                log.lock().push(line);
                log.shared.grown.notify_all();
            }
        })
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// The lines that are JSON objects (`--log-format json`).
    pub fn objects(&self) -> Vec<Value> {
        self.lock().iter().filter_map(|line| object(line)).collect()
    }

    /// How many lines so far have one of these events.
    pub fn count(&self, events: &[&str]) -> usize {
        let lines = self.objects().into_iter();
        let event = |line: Value| Some(events.contains(&line["event"].as_str()?));
        lines.filter_map(event).filter(|is_one| *is_one).count()
    }

    /// Waits for a line of which `pick` makes something, from the first line on.
    pub fn wait_for<T>(
        &self,
        timeout: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut lines = self.lock();
        loop {
            let found = lines.iter().skip(seen).find_map(|line| pick(line));
            seen = lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return found;
            }
            lines = self
                .shared
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The last lines, for a person to read.
    pub fn tail(&self, number: usize) -> String {
        let lines = self.lock();
        let skipped = lines.len().saturating_sub(number);
        lines
            .iter()
            .skip(skipped)
            .map(|line| format!("    {line}\n"))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log line as an object.
pub(super) fn object(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().filter(Value::is_object)
}
