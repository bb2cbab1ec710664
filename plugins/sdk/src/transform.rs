use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Context, Error, Errors, Out, Record, State, StateParts};

/// Whose records a result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One record: stateless.
    Record,
    /// The records of one partition.
    Partition,
    /// The records of all partitions: one host at a time does the work.
    Pipeline,
}

/// What the host must know before it makes an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformDescription {
    pub scope: Scope,
    /// Wants `on_watermark` and `on_timer`.
    pub timers: bool,
}

/// No record with an older timestamp is expected any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermark {
    /// Of one slot (partition scope).
    Slot { slot: u32, at_ms: i64 },
    /// Of all slots (pipeline scope).
    All { at_ms: i64 },
}

/// A transform with a configuration of its own, perhaps with state and event time.
///
/// State is kept per slot (a source partition of this task): the host snapshots, restores and releases it slot by
/// slot, since partitions move between tasks one by one.
pub trait Transform: Sized + Send + 'static {
    /// Doc comments of its fields become the reference. Put `#[serde(deny_unknown_fields)]` on it.
    type Config: DeserializeOwned + JsonSchema;

    /// Version of what `snapshot` writes.
    const STATE_VERSION: u32 = 1;

    fn describe(_config: &Self::Config) -> TransformDescription {
        TransformDescription {
            scope: Scope::Record,
            timers: false,
        }
    }

    /// Adds what the types of the configuration cannot say.
    fn validate(_config: &Self::Config, _errors: &mut Errors) {}

    fn new(config: Self::Config, context: &Context) -> Result<Self, Error>;

    /// One record. Outputs of a record that ends in an error are taken back.
    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error>;

    /// After the last record of a call.
    fn after_batch<'b>(&mut self, _out: &mut Out<'_, 'b>) -> Result<(), Error> {
        Ok(())
    }

    fn on_watermark<'b>(
        &mut self,
        _watermark: Watermark,
        _out: &mut Out<'_, 'b>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn on_timer<'b>(
        &mut self,
        _slot: u32,
        _id: u64,
        _now_ms: i64,
        _out: &mut Out<'_, 'b>,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Names every part of the slot's state; see [`State`].
    fn snapshot(&mut self, _slot: u32, _state: &mut State) -> Result<(), Error> {
        Ok(())
    }

    /// Takes the state of a slot that has none. `version` is the [`Transform::STATE_VERSION`] that wrote it. An error here
    /// stops the host: it never starts without the state.
    fn restore(&mut self, _slot: u32, _version: u32, _parts: StateParts<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The slot is no longer this task's.
    fn release(&mut self, _slot: u32) {}

    /// Last call before the drop.
    fn stop(&mut self) {}
}

/// The short form: the configuration struct is the transform, and it is stateless.
pub trait SimpleTransform: DeserializeOwned + JsonSchema + Sized + Send + 'static {
    /// Adds what the types of the configuration cannot say.
    fn validate(&self, _errors: &mut Errors) {}

    /// One record. Outputs of a record that ends in an error are taken back.
    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error>;
}

impl<T: SimpleTransform> Transform for T {
    type Config = T;

    fn validate(config: &T, errors: &mut Errors) {
        SimpleTransform::validate(config, errors);
    }

    fn new(config: T, _context: &Context) -> Result<Self, Error> {
        Ok(config)
    }

    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        SimpleTransform::process(self, record, out)
    }
}
