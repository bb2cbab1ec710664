//! Instances of plugins. The ABI's objects can answer anything; these answer what the host may rely on, or an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_plugin_api as api;
use weir_plugin_api::abi_stable::std_types::{RResult, RSlice, RVec};
use weir_plugin_api::{
    Batch, Consumed, HostHandle, Output, PluginError, Settlements, SinkBox, StatePart,
    StatePartRef, TransformBox, error_kind,
};

use super::protocol;

/// Who an instance is.
#[derive(Clone, Copy)]
pub struct Creation<'a> {
    /// Its way to the host: one per node and task, used again for every instance.
    pub host: HostHandle,
    pub pipeline: &'a str,
    pub node: &'a str,
    pub task: u32,
}

/// What an error of a call means for the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// Call again after a while; the instance and the outputs of the records it consumed are good.
    Retryable,
    /// The task cannot go on with this plugin.
    Fatal,
    /// A snapshot could not be read.
    State,
    /// The plugin panicked: drop the instance and this call's outputs.
    Panic,
    /// The plugin did what it may not do: drop the instance and this call's outputs.
    Protocol,
}

/// Why a call failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    pub kind: CallErrorKind,
    /// For [`CallErrorKind::Retryable`]; `None` = the host chooses.
    pub retry_after: Option<Duration>,
    /// Stable dotted code.
    pub code: String,
    /// One sentence that names the plugin.
    pub message: String,
}

/// A panic's text may have several lines (`assert_eq!`), an error has one.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CallError {}

impl CallError {
    pub(super) fn of(plugin: &str, error: PluginError) -> Self {
        let kind = match error.kind {
            error_kind::RETRYABLE => CallErrorKind::Retryable,
            error_kind::PANIC => CallErrorKind::Panic,
            error_kind::STATE => CallErrorKind::State,
            // Fatal, and what a newer plugin may add.
            _ => CallErrorKind::Fatal,
        };
        let what = match kind {
            CallErrorKind::Panic => "panicked",
            _ => "failed",
        };
        CallError {
            kind,
            retry_after: (error.retry_after_ms > 0)
                .then(|| Duration::from_millis(error.retry_after_ms)),
            code: error.code.into_string(),
            message: format!("plugin `{plugin}` {what}: {}", one_line(&error.message)),
        }
    }

    pub(super) fn protocol(plugin: &str, code: &str, what: impl std::fmt::Display) -> Self {
        CallError {
            kind: CallErrorKind::Protocol,
            retry_after: None,
            code: format!("plugin.protocol.{code}"),
            message: format!("plugin `{plugin}` broke the plugin protocol: it {what}"),
        }
    }

    pub(super) fn fatal(code: &str, message: String) -> Self {
        CallError {
            kind: CallErrorKind::Fatal,
            retry_after: None,
            code: code.to_owned(),
            message,
        }
    }
}

/// Answer of `process` and `write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// Records `0..consumed` of the batch are done; 0 where the error is a panic or a broken protocol.
    pub consumed: usize,
    pub error: Option<CallError>,
}

impl Processed {
    fn failed(error: CallError) -> Self {
        Processed {
            consumed: 0,
            error: Some(error),
        }
    }
}

/// A slot's state, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of the format of the parts; the plugin's own count.
    pub version: u32,
    /// By id; `None` = unchanged since the snapshot before, or since the restore.
    pub parts: BTreeMap<u64, Option<Vec<u8>>>,
}

/// A transform.
pub struct TransformInstance {
    plugin: Arc<str>,
    object: TransformBox,
}

impl TransformInstance {
    /// `plugin` is the name that errors give.
    pub fn new(plugin: &str, object: TransformBox) -> Self {
        TransformInstance {
            plugin: plugin.into(),
            object,
        }
    }

    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// `out` holds nothing before the call. Costs one comparison per output beyond the plugin's own work, as long as
    /// outputs stand in the order of their inputs.
    pub fn process<'b>(&mut self, batch: &Batch<'b>, out: &mut Output<'b>) -> Processed {
        let answer = self.object.process(batch, out);
        let processed = processed(&self.plugin, answer);
        let tainted = processed
            .error
            .as_ref()
            .is_some_and(|error| error.kind == CallErrorKind::Panic);
        if tainted {
            return Processed {
                consumed: 0,
                ..processed
            };
        }
        match protocol::check_process(batch, out, &processed) {
            Ok(()) => processed,
            Err(broken) => Processed::failed(broken.of(&self.plugin)),
        }
    }

    /// `batch` holds no records; its slots are those of the task.
    ///
    /// # Errors
    /// The plugin's own, a panic, or a broken protocol.
    pub fn on_watermark<'b>(
        &mut self,
        batch: &Batch<'b>,
        slot: u32,
        watermark_ms: i64,
        out: &mut Output<'b>,
    ) -> Result<(), CallError> {
        let answer = self.object.on_watermark(batch, slot, watermark_ms, out);
        given(&self.plugin, answer)?;
        protocol::check_derived(batch, out).map_err(|broken| broken.of(&self.plugin))
    }

    /// A timer of the plugin's is due; `batch` as in [`TransformInstance::on_watermark`].
    ///
    /// # Errors
    /// The plugin's own, a panic, or a broken protocol.
    pub fn on_timer<'b>(
        &mut self,
        batch: &Batch<'b>,
        slot: u32,
        id: u64,
        now_ms: i64,
        out: &mut Output<'b>,
    ) -> Result<(), CallError> {
        let answer = self.object.on_timer(batch, slot, id, now_ms, out);
        given(&self.plugin, answer)?;
        protocol::check_derived(batch, out).map_err(|broken| broken.of(&self.plugin))
    }

    /// # Errors
    /// The plugin's own, a panic, or a broken protocol: two parts of one id.
    pub fn snapshot(&mut self, slot: u32) -> Result<Snapshot, CallError> {
        let mut named = RVec::new();
        let answer = self.object.snapshot(slot, &mut named);
        let version = given(&self.plugin, answer)?;
        let mut parts = BTreeMap::new();
        for StatePart {
            id,
            is_unchanged,
            bytes,
        } in named
        {
            let bytes = (!is_unchanged).then(|| bytes.into_vec());
            if parts.insert(id, bytes).is_some() {
                return Err(CallError::protocol(
                    &self.plugin,
                    "snapshot",
                    format_args!("names part {id} of slot {slot} twice"),
                ));
            }
        }
        Ok(Snapshot { version, parts })
    }

    /// `parts` ascend by id.
    ///
    /// # Errors
    /// The plugin's own (kind `State`: it cannot read the snapshot), or a panic.
    pub fn restore(
        &mut self,
        slot: u32,
        version: u32,
        parts: &BTreeMap<u64, Arc<[u8]>>,
    ) -> Result<(), CallError> {
        let parts: Vec<StatePartRef<'_>> = parts
            .iter()
            .map(|(id, bytes)| StatePartRef {
                id: *id,
                bytes: RSlice::from_slice(bytes),
            })
            .collect();
        let answer = self.object.restore(slot, version, parts.as_slice().into());
        given(&self.plugin, answer)
    }

    /// # Errors
    /// A panic.
    pub fn release(&mut self, slot: u32) -> Result<(), CallError> {
        let answer = self.object.release(slot);
        given(&self.plugin, answer)
    }

    /// The last call; the drop follows.
    ///
    /// # Errors
    /// A panic.
    pub fn stop(mut self) -> Result<(), CallError> {
        let answer = self.object.stop();
        given(&self.plugin, answer)
    }
}

/// A sink.
pub struct SinkInstance {
    plugin: Arc<str>,
    object: SinkBox,
}

impl SinkInstance {
    /// `plugin` is the name that errors give.
    pub fn new(plugin: &str, object: SinkBox) -> Self {
        SinkInstance {
            plugin: plugin.into(),
            object,
        }
    }

    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// 0 consumed without an error: the sink is full. Whether each verdict belongs to an accepted record is for the
    /// ledger to see, which knows them.
    pub fn write(&mut self, batch: &Batch<'_>, out: &mut Settlements) -> Processed {
        let settled = out.settled.len();
        let answer = self.object.write(batch, out);
        let processed = processed(&self.plugin, answer);
        let checked = protocol::check_consumed(batch, processed.consumed)
            .and_then(|()| protocol::check_verdicts(out, settled));
        match checked {
            Ok(()) => processed,
            Err(broken) => Processed::failed(broken.of(&self.plugin)),
        }
    }

    /// # Errors
    /// The plugin's own, a panic, or a broken protocol.
    pub fn poll(&mut self, out: &mut Settlements) -> Result<(), CallError> {
        let settled = out.settled.len();
        let answer = self.object.poll(out);
        given(&self.plugin, answer)?;
        protocol::check_verdicts(out, settled).map_err(|broken| broken.of(&self.plugin))
    }

    /// Waits at most `wait_ms`; true once every accepted record is settled.
    ///
    /// # Errors
    /// The plugin's own, a panic, or a broken protocol.
    pub fn flush(&mut self, wait_ms: u64, out: &mut Settlements) -> Result<bool, CallError> {
        let settled = out.settled.len();
        let answer = self.object.flush(wait_ms, out);
        let state = given(&self.plugin, answer)?;
        protocol::check_verdicts(out, settled).map_err(|broken| broken.of(&self.plugin))?;
        match state {
            api::flush_state::DONE => Ok(true),
            api::flush_state::PENDING => Ok(false),
            other => Err(CallError::protocol(
                &self.plugin,
                "flush",
                format_args!("answered {other} to flush, and this host knows 0 and 1"),
            )),
        }
    }

    /// The last call; the drop follows.
    ///
    /// # Errors
    /// A panic.
    pub fn stop(mut self) -> Result<(), CallError> {
        let answer = self.object.stop();
        given(&self.plugin, answer)
    }
}

fn given<T>(plugin: &str, answer: RResult<T, PluginError>) -> Result<T, CallError> {
    answer
        .into_result()
        .map_err(|error| CallError::of(plugin, error))
}

fn processed(plugin: &str, answer: Consumed) -> Processed {
    Processed {
        consumed: answer.records,
        error: answer
            .error
            .into_option()
            .map(|error| CallError::of(plugin, error)),
    }
}
