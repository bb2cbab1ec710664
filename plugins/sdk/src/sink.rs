use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use weir_plugin_api as api;
use weir_plugin_api::abi_stable::std_types::ROption;
use weir_plugin_api::{Rejection, Settled, Settlements, SinkErrorCount};

use crate::record::Batch;
use crate::{Context, Error, Errors};

/// What writing a record again does to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: ids and versions are functions of the record.
    Idempotent,
    /// It may stand there twice.
    Duplicates,
}

/// How an accepted record ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target has it, durably.
    Stored,
    /// The target holds an equal or newer version.
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Every accepted record is settled.
    Done,
    /// Some are still on their way.
    Pending,
}

/// A sink. All calls come from one thread and none may block (but `flush`, for as long as it is told): whoever waits
/// for a network does it on threads of its own. Every accepted record is settled exactly once, in any order. The
/// host keeps offsets, original bytes and dead letters; a sink knows none of these.
pub trait Sink: Sized + Send + 'static {
    /// Doc comments of its fields become the reference. Put `#[serde(deny_unknown_fields)]` on it.
    type Config: DeserializeOwned + JsonSchema;

    fn replay(_config: &Self::Config) -> Replay {
        Replay::Duplicates
    }

    /// Adds what the types of the configuration cannot say.
    fn validate(_config: &Self::Config, _errors: &mut Errors) {}

    fn new(config: Self::Config, context: &Context) -> Result<Self, Error>;

    /// Copies what it keeps and answers how many records, from the front, it accepted; 0 = full. The host refuses an
    /// answer above the batch's length.
    fn write(&mut self, batch: &Batch<'_>, out: &mut Settle<'_>) -> Result<usize, Error>;

    /// Reports verdicts; called at least every 100 ms.
    fn poll(&mut self, out: &mut Settle<'_>) -> Result<(), Error>;

    /// Sends what it holds and waits at most `wait_ms` for the verdicts.
    fn flush(&mut self, wait_ms: u64, out: &mut Settle<'_>) -> Result<Flush, Error>;

    /// Last call before the drop.
    fn stop(&mut self) {}
}

/// Takes a sink's verdicts.
pub struct Settle<'o>(pub(crate) &'o mut Settlements);

impl Settle<'_> {
    /// `seq` is [`crate::Record::seq`] of an accepted record.
    pub fn settle(&mut self, seq: u64, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Stored => api::verdict::STORED,
            Verdict::Superseded => api::verdict::SUPERSEDED,
        };
        self.0.settled.push(Settled { seq, verdict });
    }

    /// The target refuses this record for good. `code` is stable and dotted, `message` names the field or the limit.
    pub fn reject(&mut self, seq: u64, code: &str, message: &str, detail: &str) {
        self.0.rejections.push(Rejection {
            seq,
            code: code.into(),
            message: message.into(),
            detail: detail.into(),
        });
    }

    /// Counts an error met on the way to a verdict; `class` is one of a small fixed set of names.
    pub fn count_error(&mut self, class: &str, count: u64) {
        self.0.errors.push(SinkErrorCount {
            class: class.into(),
            count,
        });
    }

    /// The target cannot be written now, and why (no secrets); shown in /readyz until [`Settle::available`].
    pub fn unavailable(&mut self, reason: &str) {
        self.0.unavailable = ROption::RSome(reason.into());
    }

    pub fn available(&mut self) {
        self.0.unavailable = ROption::RNone;
    }
}
