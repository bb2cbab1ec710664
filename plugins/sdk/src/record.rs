use weir_plugin_api as api;
use weir_plugin_api::abi_stable::std_types::RSlice;
use weir_plugin_api::{Bytes, Header, timestamp_type};

/// Who set a record's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The record has no timestamp.
    None,
    /// The producer.
    CreateTime,
    /// The broker, when it appended the record.
    LogAppendTime,
}

/// A record, borrowed. Made by changing the one that came in (`with_value`, ...), or with [`Record::derived`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'b>(pub(crate) api::Record<'b>);

impl<'b> Record<'b> {
    /// A record that does not come from one input record: a window's result. It has no key, value, headers or timestamp.
    pub fn derived(slot: u32) -> Self {
        Record(api::Record {
            key: Bytes::NULL,
            value: Bytes::NULL,
            headers: RSlice::EMPTY,
            timestamp_ms: api::NO_TIMESTAMP,
            offset: -1,
            seq: api::SEQ_DERIVED,
            slot,
            timestamp_type: timestamp_type::NONE,
        })
    }

    /// `None` is Kafka's null.
    pub fn key(&self) -> Option<&'b [u8]> {
        self.0.key.get()
    }

    /// `None` is Kafka's null (a tombstone).
    pub fn value(&self) -> Option<&'b [u8]> {
        self.0.value.get()
    }

    /// Name and value of each header, in order; names may repeat.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'b str, Option<&'b [u8]>)> + use<'b> {
        self.0
            .headers
            .as_slice()
            .iter()
            .map(|header| (header.name.as_str(), header.value.get()))
    }

    /// Value of the last header of this name, as Kafka's own `lastHeader`; the inner `None` is a null value.
    pub fn header(&self, name: &str) -> Option<Option<&'b [u8]>> {
        let headers = self.0.headers.as_slice();
        headers
            .iter()
            .rev()
            .find(|header| header.name.as_str() == name)
            .map(|header| header.value.get())
    }

    /// Unix milliseconds.
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.0.timestamp_ms != api::NO_TIMESTAMP).then_some(self.0.timestamp_ms)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        match self.0.timestamp_type {
            timestamp_type::CREATE_TIME | timestamp_type::SET_BY_PLUGIN => {
                TimestampType::CreateTime
            }
            timestamp_type::LOG_APPEND_TIME => TimestampType::LogAppendTime,
            _ => TimestampType::None,
        }
    }

    /// Offset in the source partition; -1 for a derived record.
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Which source partition of this task; see [`Batch::topic`]. `u32::MAX` for a record derived from several.
    pub fn slot(&self) -> u32 {
        self.0.slot
    }

    /// For a sink: the number to settle.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    pub fn with_key(mut self, key: Option<&'b [u8]>) -> Self {
        self.0.key = Bytes::from_option(key);
        self
    }

    pub fn with_value(mut self, value: &'b [u8]) -> Self {
        self.0.value = Bytes::new(value);
        self
    }

    /// Makes the value Kafka's null.
    pub fn with_null_value(mut self) -> Self {
        self.0.value = Bytes::NULL;
        self
    }

    /// Replaces all headers; see [`crate::Out::headers`].
    pub fn with_headers(mut self, headers: Headers<'b>) -> Self {
        self.0.headers = headers.0;
        self
    }

    /// Unix milliseconds. A Kafka sink sends it as the producer's timestamp.
    pub fn with_timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.0.timestamp_ms = timestamp_ms;
        self.0.timestamp_type = timestamp_type::SET_BY_PLUGIN;
        self
    }
}

/// Headers that stand in an output's arena.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'b>(pub(crate) RSlice<'b, Header<'b>>);

/// The records of one call.
#[derive(Clone, Copy)]
pub struct Batch<'b>(pub(crate) api::Batch<'b>);

impl<'b> Batch<'b> {
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'b>> + use<'b> {
        self.0
            .records
            .as_slice()
            .iter()
            .map(|record| Record(*record))
    }

    pub fn len(&self) -> usize {
        self.0.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.records.is_empty()
    }

    /// The host's wall clock when the call began, unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.0.now_ms
    }

    /// True once the call has lasted as long as the host allows (100 ms): return what is done.
    pub fn yield_requested(&self) -> bool {
        self.0.yield_requested()
    }

    /// Topic of a slot; empty for a slot that is none.
    pub fn topic(&self, slot: u32) -> &'b str {
        self.slot_name(slot).map_or("", |name| name.topic.as_str())
    }

    /// Partition of a slot; -1 for a slot that is none.
    pub fn partition(&self, slot: u32) -> i32 {
        self.slot_name(slot).map_or(-1, |name| name.partition)
    }

    /// How many partitions the topic of a slot has, as far as the host knows; 0 = not known.
    pub fn partition_count(&self, slot: u32) -> i32 {
        self.slot_name(slot).map_or(0, |name| name.partition_count)
    }

    /// Name of the source node of a slot; empty for a slot that is none.
    pub fn source(&self, slot: u32) -> &'b str {
        self.slot_name(slot).map_or("", |name| name.source.as_str())
    }

    fn slot_name(&self, slot: u32) -> Option<&'b api::SlotName<'b>> {
        self.0.slots.as_slice().get(slot as usize)
    }
}
