//! A transform in its place: its input, its instance, and what it does when a call fails.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use weir_plugin_api::host::OwnedBatch;

use super::Receiver;
use super::input::Input;
use crate::plugin::{CallError, TransformInstance};
use crate::topology::Scope;

/// Panics of one instance's successors that no single record explains, before the task fails.
pub const UNEXPLAINED_PANICS_MAX: u32 = 3;

/// First wait after a retryable error that names none; doubles up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries: a dependency that is back is noticed within ten seconds.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Makes a fresh instance.
pub type Factory = Box<dyn Fn() -> Result<TransformInstance, CallError>>;

/// A call that is to be tried again.
pub struct Retry {
    pub since: Instant,
    pub at: Instant,
    pub tries: u32,
    pub reason: String,
}

pub struct TransformNode {
    pub name: String,
    pub plugin: String,
    pub scope: Scope,
    pub timers: bool,
    pub receivers: Vec<Receiver>,
    pub input: Input,
    pub instance: TransformInstance,
    pub factory: Factory,
    pub retry: Option<Retry>,
    /// Records below this `seq` are given one at a time: one of them made the plugin panic.
    pub isolate_below: u64,
    pub unexplained_panics: u32,
    /// The newest watermark given, for each slot or for all (`SLOT_ALL`).
    pub watermarks: std::collections::BTreeMap<u32, i64>,
}

impl TransformNode {
    pub fn is_stateful(&self) -> bool {
        self.scope != Scope::Record
    }

    /// The next records to give, unless it waits for a retry.
    pub fn next(&self, now: Instant) -> Option<(Rc<OwnedBatch>, Range<usize>)> {
        if self.retry.as_ref().is_some_and(|retry| now < retry.at) {
            return None;
        }
        let (batch, range) = self.input.front()?;
        let first = batch.records().get(range.start)?;
        let range = if first.seq < self.isolate_below {
            range.start..range.start + 1
        } else {
            range
        };
        Some((batch, range))
    }

    /// Notes a retryable error; answers for how long the same call has failed.
    pub fn retry_later(&mut self, error: &CallError, now: Instant) -> Duration {
        let (since, tries) = self
            .retry
            .as_ref()
            .map_or((now, 0), |retry| (retry.since, retry.tries));
        let wait = RETRY_WAIT_MIN
            .saturating_mul(1 << tries.min(16))
            .min(RETRY_WAIT_MAX);
        let wait = error.retry_after.unwrap_or(wait);
        let reason = error.message.clone();
        self.retry = Some(Retry {
            since,
            at: now + wait,
            tries: tries + 1,
            reason,
        });
        now.duration_since(since)
    }
}
