//! Scripted faults: what a test makes the store do wrong, request by request or item by item.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::bulk::Operation;
use crate::error::ApiError;

/// How one bulk request is served.
#[derive(Debug, Clone)]
pub enum BulkFault {
    /// As a healthy server does; a place holder in the queue.
    None,
    /// Answered with this status, these headers and this body; nothing is applied.
    Status {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Served as usual, but waits before it is applied and again before it is answered. The request is applied even
    /// if the client has gone by then, as a real server's would be.
    Latency {
        before_apply: Duration,
        before_answer: Duration,
    },
    /// Applied only when the gate is opened.
    HoldBeforeApply(Gate),
    /// Applied at once, answered when the gate is opened.
    HoldBeforeAnswer(Gate),
    /// The connection is reset, nothing is applied.
    ResetBeforeApply,
    /// Everything is applied, then the connection is reset.
    ResetAfterApply,
    /// Never answered, nothing is applied.
    BlackHole,
    /// Applied, never answered.
    BlackHoleAfterApply,
    /// Applied; `Content-Length` promises the whole answer, the connection is cut after `keep_bytes` of it.
    TruncatedBody { keep_bytes: usize },
    /// Applied; a complete HTTP answer whose JSON stops after `keep_bytes`.
    TruncatedJson { keep_bytes: usize },
    /// Applied; the answer arrives in pieces of `piece_bytes`, each after `pause`.
    SlowBody { piece_bytes: usize, pause: Duration },
    /// Applied; the answer's `items` are not what was sent.
    Items(ItemsChange),
}

impl BulkFault {
    /// A whole-request error in Elasticsearch's form.
    pub fn error(status: u16, error_type: &str, reason: &str) -> Self {
        Self::Status {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: ApiError::new(status, error_type, reason).body().to_string(),
        }
    }

    /// 429 for the whole request, with the seconds after which the client may come back.
    pub fn too_many_requests(retry_after_s: u64) -> Self {
        let mut fault = Self::error(
            429,
            "es_rejected_execution_exception",
            "rejected execution of coordinating operation",
        );
        if let Self::Status { headers, .. } = &mut fault {
            headers.push(("retry-after".to_owned(), retry_after_s.to_string()));
        }
        fault
    }

    /// 502 with an HTML page, as a proxy in front of a dead server answers.
    pub fn html_bad_gateway() -> Self {
        Self::Status {
            status: 502,
            headers: vec![("content-type".to_owned(), "text/html".to_owned())],
            body:
                "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
                    .to_owned(),
        }
    }
}

/// How the `items` of an answer differ from what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemsChange {
    /// The last `n` items are missing.
    Fewer(usize),
    /// The last item stands `n` times more.
    More(usize),
    Reversed,
    /// `errors` says this, whatever the items say.
    ErrorsFlag(bool),
    /// Every `_id` has this text appended.
    ForeignIds(&'static str),
    /// Every item names this action.
    ForeignAction(&'static str),
    /// Every item says this of the failure store.
    FailureStore(&'static str),
}

/// Which operations an [`ItemFault`] meets.
#[derive(Clone)]
pub enum ItemTarget {
    Any,
    Id(String),
    Index(String),
    Matching(Arc<dyn Fn(&Operation) -> bool + Send + Sync>),
}

impl ItemTarget {
    pub fn id(id: impl Into<String>) -> Self {
        Self::Id(id.into())
    }

    pub fn matching(predicate: impl Fn(&Operation) -> bool + Send + Sync + 'static) -> Self {
        Self::Matching(Arc::new(predicate))
    }

    fn meets(&self, operation: &Operation) -> bool {
        match self {
            Self::Any => true,
            Self::Id(id) => operation.id.as_deref() == Some(id),
            Self::Index(index) => operation.index == *index,
            Self::Matching(predicate) => predicate(operation),
        }
    }
}

impl fmt::Debug for ItemTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("Any"),
            Self::Id(id) => write!(formatter, "Id({id:?})"),
            Self::Index(index) => write!(formatter, "Index({index:?})"),
            Self::Matching(_) => formatter.write_str("Matching(..)"),
        }
    }
}

/// What one guilty operation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultScope {
    /// Its own item is refused; its neighbours are applied.
    Item,
    /// The whole request is refused with the error's status; nothing is applied.
    Request,
}

/// An error for chosen operations.
#[derive(Debug, Clone)]
pub struct ItemFault {
    pub target: ItemTarget,
    pub error: ApiError,
    pub scope: FaultScope,
    /// How many operations meet it before it is spent; `None`: all, until [`Faults::clear`].
    pub times: Option<usize>,
}

impl ItemFault {
    /// Every operation that the target meets is refused until the script is cleared.
    pub fn new(target: ItemTarget, status: u16, error_type: &str, reason: &str) -> Self {
        Self {
            target,
            error: ApiError::new(status, error_type, reason),
            scope: FaultScope::Item,
            times: None,
        }
    }

    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// One guilty operation refuses its whole request.
    pub fn whole_request(mut self) -> Self {
        self.scope = FaultScope::Request;
        self
    }
}

/// Holds requests until a test opens it. Clones share one gate.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    pub fn closed() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
        }
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) async fn passed(&self) {
        // The sender lives in `self`, so the wait ends only by an opened gate.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// The script. It can be changed while the store serves.
#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    queue: VecDeque<BulkFault>,
    standing: Option<BulkFault>,
    items: Vec<ItemFault>,
    root_status: Option<u16>,
    /// Answers by path, without the query.
    answers: BTreeMap<String, (u16, Value)>,
}

impl Faults {
    /// The next bulk request that no earlier entry of the queue takes is served like this, once.
    pub fn push(&self, fault: BulkFault) {
        self.script().queue.push_back(fault);
    }

    /// Each of the next bulk requests is served by one entry, in order.
    pub fn extend(&self, faults: impl IntoIterator<Item = BulkFault>) {
        self.script().queue.extend(faults);
    }

    /// Every bulk request that finds the queue empty is served like this, until it is changed.
    pub fn set_standing(&self, fault: Option<BulkFault>) {
        self.script().standing = fault;
    }

    /// Adds an error for chosen operations; the first fault that meets an operation decides.
    pub fn push_item(&self, fault: ItemFault) {
        self.script().items.push(fault);
    }

    /// The status of `GET /`, for example 405 as some stripped builds answer; `None`: 200.
    pub fn set_root_status(&self, status: Option<u16>) {
        self.script().root_status = status;
    }

    /// Every request of this path (without the query, as `/_nodes/_local`) that is no bulk is answered like this.
    pub fn set_answer(&self, path: &str, status: u16, body: Value) {
        self.script()
            .answers
            .insert(path.to_owned(), (status, body));
    }

    pub(crate) fn answer(&self, path: &str) -> Option<(u16, Value)> {
        self.script().answers.get(path).cloned()
    }

    /// Ends every fault. Requests that are held by a gate stay held.
    pub fn clear(&self) {
        *self.script() = Script::default();
    }

    /// Faults that are still to be met: entries of the queue, and faults of a number of operations.
    pub fn queued(&self) -> usize {
        let script = self.script();
        let counted = script.items.iter().filter(|fault| fault.times.is_some());
        script.queue.len() + counted.count()
    }

    pub(crate) fn root_status(&self) -> Option<u16> {
        self.script().root_status
    }

    pub(crate) fn next_bulk(&self) -> BulkFault {
        let mut script = self.script();
        let queued = script.queue.pop_front();
        queued
            .or_else(|| script.standing.clone())
            .unwrap_or(BulkFault::None)
    }

    /// The scripted error of each operation, in order, or the error that refuses the whole request.
    pub(crate) fn judge(
        &self,
        operations: &[Operation],
    ) -> Result<Vec<Option<ApiError>>, ApiError> {
        let mut script = self.script();
        operations
            .iter()
            .map(|operation| match script.meet(operation) {
                Some(fault) if fault.scope == FaultScope::Request => Err(fault.error),
                Some(fault) => Ok(Some(fault.error)),
                None => Ok(None),
            })
            .collect()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    fn meet(&mut self, operation: &Operation) -> Option<ItemFault> {
        let meets = |fault: &ItemFault| fault.times != Some(0) && fault.target.meets(operation);
        let position = self.items.iter().position(meets)?;
        let fault = self.items.get_mut(position)?;
        let met = fault.clone();
        if let Some(times) = &mut fault.times {
            *times -= 1;
            if *times == 0 {
                self.items.remove(position);
            }
        }
        Some(met)
    }
}
