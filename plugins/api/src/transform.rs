// `#[sabi_trait]` expands to impls inside a constant.
#![allow(non_local_definitions)]

use abi_stable::std_types::{RBox, RResult, RSlice, RVec};
use abi_stable::{StableAbi, sabi_trait};

use crate::{Batch, Consumed, Output, PluginError};

/// A part of a slot's state, as a snapshot gives it. The host stores parts by `id` and stores again only what changed.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct StatePart {
    /// The plugin's own name of the part, once in a slot.
    pub id: u64,
    /// The bytes are those that the snapshot before gave, or the restore; `bytes` is empty.
    pub is_unchanged: bool,
    pub bytes: RVec<u8>,
}

/// A part of a slot's state on its way back.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatePartRef<'a> {
    pub id: u64,
    pub bytes: RSlice<'a, u8>,
}

/// A transform instance. State is kept per slot. All calls come from one thread, one at a time.
#[sabi_trait]
pub trait TransformObject: Send {
    fn process<'b>(&mut self, batch: &Batch<'b>, out: &mut Output<'b>) -> Consumed;

    /// No record older than `watermark_ms` is expected any more: of this slot (partition scope) or, with `SLOT_ALL`, of
    /// all slots (pipeline scope). `batch` holds no records; it names the slots.
    fn on_watermark<'b>(
        &mut self,
        batch: &Batch<'b>,
        slot: u32,
        watermark_ms: i64,
        out: &mut Output<'b>,
    ) -> RResult<(), PluginError>;

    /// A timer that the plugin asked for is due. `batch` as in `on_watermark`.
    fn on_timer<'b>(
        &mut self,
        batch: &Batch<'b>,
        slot: u32,
        id: u64,
        now_ms: i64,
        out: &mut Output<'b>,
    ) -> RResult<(), PluginError>;

    /// Appends all parts of the slot's state and answers the version of their format. A part that is not named any more is
    /// gone.
    fn snapshot(&mut self, slot: u32, out: &mut RVec<StatePart>) -> RResult<u32, PluginError>;

    /// Gives a slot that has no state all parts of one.
    fn restore(
        &mut self,
        slot: u32,
        version: u32,
        parts: RSlice<'_, StatePartRef<'_>>,
    ) -> RResult<(), PluginError>;

    /// The slot is no longer this task's: drop its state.
    fn release(&mut self, slot: u32) -> RResult<(), PluginError>;

    /// Last call before the drop.
    #[sabi(last_prefix_field)]
    fn stop(&mut self) -> RResult<(), PluginError>;
}

pub type TransformBox = TransformObject_TO<'static, RBox<()>>;
