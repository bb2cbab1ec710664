//! What a task tells the ticker about its plugin calls.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The low bits of a call's word hold the node's index plus one, 0 for "no call"; the rest counts calls.
const NODE_BITS: u32 = 16;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;

/// Names for the log and for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLabel {
    /// The node's name in the topology.
    pub node: String,
    /// The plugin's name.
    pub plugin: String,
}

impl NodeLabel {
    /// A label from two names.
    pub fn new(node: impl Into<String>, plugin: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            plugin: plugin.into(),
        }
    }
}

/// Says whether a task is inside a plugin call, and asks that call to give back.
///
/// [`CallMonitor::begin`] and [`CallMonitor::end`] are the task thread's alone. They take no lock and read no
/// clock: the ticker dates a call by when it first sees it.
#[derive(Debug)]
pub struct CallMonitor {
    nodes: Vec<NodeLabel>,
    call: AtomicU64,
    yield_flag: AtomicBool,
    awake_ms: AtomicU64,
}

impl CallMonitor {
    pub(super) fn new(nodes: Vec<NodeLabel>) -> Self {
        Self {
            nodes,
            call: AtomicU64::new(0),
            yield_flag: AtomicBool::new(false),
            awake_ms: AtomicU64::new(0),
        }
    }

    /// How long the process has run, to a look of the ticker. While it stands still (SIGSTOP, a suspended machine) this does
    /// too, so that a plugin is not taken for a slow one.
    pub fn time_awake(&self) -> Duration {
        Duration::from_millis(self.awake_ms.load(Ordering::Relaxed))
    }

    pub(super) fn add_time_awake(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.awake_ms.fetch_add(time_ms, Ordering::Relaxed);
    }

    /// A call into the node at `node`, an index into the labels that the task was watched with, begins.
    ///
    /// The ticker may have decided on the call before at this very moment; then this one is asked to give back too
    /// early. That costs one more call and nothing else.
    pub fn begin(&self, node: usize) {
        let calls = self.call.load(Ordering::Relaxed) >> NODE_BITS;
        let node = (node as u64 + 1).min(NODE_MASK);
        self.yield_flag.store(false, Ordering::Relaxed);
        self.call
            .store((calls + 1) << NODE_BITS | node, Ordering::Release);
    }

    /// The call has come back.
    pub fn end(&self) {
        let calls = self.call.load(Ordering::Relaxed) & !NODE_MASK;
        self.call.store(calls, Ordering::Release);
    }

    /// Set while the running call has worked long enough. A plugin reads it with a relaxed load, once a record.
    pub fn yield_flag(&self) -> &AtomicBool {
        &self.yield_flag
    }

    /// The word of the running call, different for each call; `None` outside of calls.
    pub(super) fn running_call(&self) -> Option<u64> {
        let call = self.call.load(Ordering::Acquire);
        (call & NODE_MASK != 0).then_some(call)
    }

    pub(super) fn ask_to_yield(&self) {
        self.yield_flag.store(true, Ordering::Relaxed);
    }

    /// Who is being called in the call of that word.
    pub(super) fn label(&self, call: u64) -> NodeLabel {
        usize::try_from((call & NODE_MASK).saturating_sub(1))
            .ok()
            .and_then(|node| self.nodes.get(node))
            .cloned()
            .unwrap_or_else(|| NodeLabel::new("unknown", "unknown"))
    }
}
