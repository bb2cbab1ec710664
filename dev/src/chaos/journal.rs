//! What happened when: printed as it comes, counted, and what counts as a finding.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::schedule::{Event, Lane};

#[derive(Debug)]
pub struct Journal {
    began: Instant,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    faults: BTreeMap<(Lane, &'static str), usize>,
    findings: Vec<String>,
}

impl Journal {
    /// The run begins now.
    pub fn begin() -> Journal {
        Journal {
            began: Instant::now(),
            entries: Mutex::default(),
        }
    }

    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn say(&self, who: &str, what: &str) {
        println!("{:>8.1} s  {who:<18}  {what}", self.now().as_secs_f64());
    }

    pub fn fault(&self, event: &Event) {
        let key = (event.lane, event.fault.kind());
        *self.lock().faults.entry(key).or_default() += 1;
        self.say(event.lane.name(), &event.fault.to_string());
    }

    /// Something that must not be: the run fails by it.
    pub fn find(&self, who: &str, what: &str) {
        self.say(who, &format!("FINDING: {what}"));
        self.lock().findings.push(format!("{who}: {what}"));
    }

    pub fn faults(&self) -> BTreeMap<(Lane, &'static str), usize> {
        self.lock().faults.clone()
    }

    pub fn findings(&self) -> Vec<String> {
        self.lock().findings.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
