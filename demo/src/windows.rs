//! The closed windows, read back from the document store by its search.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// The index of the reference job.
pub const INDEX: &str = "visits_sync_sla";
/// The p90 above which the alert rule speaks of an SLA miss.
pub const SLA_P90_MS: f64 = 5_000.0;

const POLL: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// `allowed_lateness` of the windows and a minute for the window itself: how far back a correction can reach.
const CORRECTED_FOR: SignedDuration = SignedDuration::from_mins(6);
/// Windows that one search asks for: [`CORRECTED_FOR`] holds six of them.
const SEARCH_SIZE: usize = 100;
/// Windows that are remembered: a day of them.
const WINDOWS_MAX: usize = 1_440;

/// One window's document.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub start: Timestamp,
    pub count: u64,
    /// Name and milliseconds, the lowest percentile first.
    pub percentiles: Vec<(String, f64)>,
}

impl Window {
    /// `None` if the document has no `@timestamp` or no count.
    pub fn from_document(document: &Value) -> Option<Self> {
        let fields = document.as_object()?;
        Some(Self {
            start: fields.get("@timestamp")?.as_str()?.parse().ok()?,
            count: fields.get("count")?.as_u64()?,
            percentiles: percentiles(fields),
        })
    }

    pub fn misses_sla(&self) -> bool {
        self.percentiles
            .iter()
            .any(|(name, value)| name == "p90" && *value > SLA_P90_MS)
    }
}

fn percentiles(fields: &Map<String, Value>) -> Vec<(String, f64)> {
    let mut found: Vec<(f64, String, f64)> = fields
        .iter()
        .filter_map(|(name, value)| {
            let rank = name.strip_prefix('p')?.replace('_', ".").parse().ok()?;
            Some((rank, name.clone(), value.as_f64()?))
        })
        .collect();
    found.sort_by(|left, right| left.0.total_cmp(&right.0));
    found
        .into_iter()
        .map(|(_, name, value)| (name, value))
        .collect()
}

/// The windows seen so far.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    by_start: BTreeMap<Timestamp, Window>,
    /// How many different windows ever closed.
    pub closed: usize,
    /// New and corrected windows that nobody has shown yet, in the order of their starts.
    unseen: Vec<(Window, Arrival)>,
    /// Why the newest search failed.
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Closed,
    Corrected,
}

impl Windows {
    fn add(&mut self, window: Window) {
        let arrival = match self.by_start.get(&window.start) {
            Some(known) if *known == window => return,
            Some(_) => Arrival::Corrected,
            None => Arrival::Closed,
        };
        if arrival == Arrival::Closed {
            self.closed += 1;
        }
        self.by_start.insert(window.start, window.clone());
        self.unseen.push((window, arrival));
        while self.by_start.len() > WINDOWS_MAX {
            self.by_start.pop_first();
        }
    }

    pub fn take_unseen(&mut self) -> Vec<(Window, Arrival)> {
        std::mem::take(&mut self.unseen)
    }

    /// From where on a document can still be new or change.
    fn search_from(&self, demo_start: Timestamp) -> Timestamp {
        let newest = self.by_start.keys().next_back().copied();
        let back = newest.and_then(|newest| newest.checked_sub(CORRECTED_FOR).ok());
        back.map_or(demo_start, |back| back.max(demo_start))
    }
}

/// Asks for the windows once a second.
pub struct WindowReader {
    agent: ureq::Agent,
    url: String,
    from: Timestamp,
    windows: Arc<Mutex<Windows>>,
}

impl WindowReader {
    /// Windows that started at `from` or later.
    pub fn new(url: &str, from: Timestamp, windows: Arc<Mutex<Windows>>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            url: format!(
                "{}/{INDEX}/_search?ignore_unavailable=true",
                url.trim_end_matches('/')
            ),
            from,
            windows,
        }
    }

    /// Reads until `stop`.
    pub fn run(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.read();
            std::thread::park_timeout(POLL);
        }
    }

    /// One search; its outcome is in the shared windows.
    pub fn read(&self) {
        let from = self.windows().search_from(self.from);
        let found = self.search(from);
        let mut windows = self.windows();
        match found {
            Ok(found) => {
                windows.trouble = None;
                found.into_iter().for_each(|window| windows.add(window));
            }
            Err(trouble) => windows.trouble = Some(trouble),
        }
    }

    fn search(&self, from: Timestamp) -> Result<Vec<Window>, String> {
        let search = json!({
            "size": SEARCH_SIZE,
            "sort": [{"@timestamp": {"order": "asc", "unmapped_type": "date"}}],
            "query": {"range": {"@timestamp": {"gte": from.as_millisecond(), "format": "epoch_millis"}}},
        });
        let mut answer = self
            .agent
            .post(&self.url)
            .send_json(&search)
            .map_err(|cause| format!("document store: {cause}"))?;
        if !answer.status().is_success() {
            return Err(format!(
                "document store: the search got {}",
                answer.status()
            ));
        }
        let body: Value = answer
            .body_mut()
            .read_json()
            .map_err(|cause| format!("document store: {cause}"))?;
        let hits = body.pointer("/hits/hits").and_then(Value::as_array);
        Ok(hits
            .into_iter()
            .flatten()
            .filter_map(|hit| Window::from_document(hit.get("_source")?))
            .collect())
    }

    fn windows(&self) -> std::sync::MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
