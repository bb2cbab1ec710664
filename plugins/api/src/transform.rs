// `#[sabi_trait]` expands to impls inside a constant.
#![allow(non_local_definitions)]

use abi_stable::sabi_trait;
use abi_stable::std_types::{RBox, RResult, RSlice, RVec};

use crate::{Batch, Consumed, Output, PluginError};

/// Answer of `held` when nothing is held.
pub const HELD_NOTHING: i64 = i64::MAX;

/// A transform instance. State is kept per slot. All calls come from one thread, one at a time.
#[sabi_trait]
pub trait TransformObject: Send {
    fn process<'b>(&mut self, batch: &Batch<'b>, out: &mut Output<'b>) -> Consumed;

    /// No record older than `watermark_ms` is expected any more: of this slot (partition scope) or, with `SLOT_ALL`, of
    /// all slots (pipeline scope).
    fn on_watermark<'b>(
        &mut self,
        slot: u32,
        watermark_ms: i64,
        out: &mut Output<'b>,
    ) -> RResult<(), PluginError>;

    /// A timer that the plugin asked for is due.
    fn on_timer<'b>(
        &mut self,
        slot: u32,
        id: u64,
        now_ms: i64,
        out: &mut Output<'b>,
    ) -> RResult<(), PluginError>;

    /// The lowest offset of the slot whose effect lives only in this instance's state, or [`HELD_NOTHING`]. The host
    /// commits no offset above it as long as state is not checkpointed.
    fn held(&self, slot: u32) -> RResult<i64, PluginError>;

    /// Appends the slot's state to `out` and answers the version of its format.
    fn snapshot(&mut self, slot: u32, out: &mut RVec<u8>) -> RResult<u32, PluginError>;

    fn restore(
        &mut self,
        slot: u32,
        version: u32,
        state: RSlice<'_, u8>,
    ) -> RResult<(), PluginError>;

    /// The slot is no longer this task's: drop its state.
    fn release(&mut self, slot: u32) -> RResult<(), PluginError>;

    /// Last call before the drop.
    #[sabi(last_prefix_field)]
    fn stop(&mut self) -> RResult<(), PluginError>;
}

pub type TransformBox = TransformObject_TO<'static, RBox<()>>;
