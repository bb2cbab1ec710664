use std::sync::atomic::{AtomicBool, Ordering};

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};

use crate::Bytes;

/// `Record::timestamp_ms` of a record that has none (Kafka's own value).
pub const NO_TIMESTAMP: i64 = -1;
/// `Record::seq` of a record that is derived from many records: a window's document.
pub const SEQ_DERIVED: u64 = 0;
/// In place of a slot: all slots of the task.
pub const SLOT_ALL: u32 = u32::MAX;

/// Values of `Record::timestamp_type`.
pub mod timestamp_type {
    pub const NONE: u32 = 0;
    /// Set by the producer.
    pub const CREATE_TIME: u32 = 1;
    /// Set by the broker when it appended the record.
    pub const LOG_APPEND_TIME: u32 = 2;
    /// Set by a transform on its output; a Kafka sink sends it as the producer's timestamp.
    pub const SET_BY_PLUGIN: u32 = 3;
}

#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Header<'b> {
    pub name: RStr<'b>,
    pub value: Bytes<'b>,
}

/// One record. Input and output have this one type, so the output of a stage is the input of the next as it is.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Record<'b> {
    pub key: Bytes<'b>,
    pub value: Bytes<'b>,
    pub headers: RSlice<'b, Header<'b>>,
    /// Unix milliseconds, or [`NO_TIMESTAMP`].
    pub timestamp_ms: i64,
    /// Offset of the source record in its partition.
    pub offset: i64,
    /// Rises in the task, given by the host. An output carries the `seq` of the input that it comes from, or
    /// [`SEQ_DERIVED`]. What a sink sees is numbered anew, once per delivery: that number is what it settles.
    pub seq: u64,
    /// Index into [`Batch::slots`]; [`SLOT_ALL`] in a record derived from more than one.
    pub slot: u32,
    /// One of [`timestamp_type`].
    pub timestamp_type: u32,
}

/// Where the records of a slot come from. Slots are numbered from 0 in each task.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct SlotName<'b> {
    /// Name of the source node.
    pub source: RStr<'b>,
    pub topic: RStr<'b>,
    pub partition: i32,
    /// Partitions of the topic, as far as the host knows; 0 = not known. It may rise while the task runs.
    pub partition_count: i32,
}

/// What one call is given. Records of one slot stand in offset order.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Batch<'b> {
    pub records: RSlice<'b, Record<'b>>,
    pub slots: RSlice<'b, SlotName<'b>>,
    /// The host's wall clock when the call began, unix milliseconds.
    pub now_ms: i64,
    /// Set by the host once the call has lasted its limit: finish the record at hand and return.
    yield_flag: &'b AtomicBool,
}

impl<'b> Batch<'b> {
    pub fn new(
        records: &'b [Record<'b>],
        slots: &'b [SlotName<'b>],
        now_ms: i64,
        yield_flag: &'b AtomicBool,
    ) -> Self {
        Batch {
            records: records.into(),
            slots: slots.into(),
            now_ms,
            yield_flag,
        }
    }

    /// True once the call has lasted as long as the host allows a call (100 ms by default).
    #[inline]
    pub fn yield_requested(&self) -> bool {
        self.yield_flag.load(Ordering::Relaxed)
    }
}
