use weir_plugin_api as api;
use weir_plugin_api::abi_stable::std_types::RStr;
use weir_plugin_api::{Bytes, Failure, Header, HostHandle, TimerRequest};

use crate::record::{Batch, Headers, Record};

/// Takes what a transform produces. Memory it hands out lives as long as the records do.
pub struct Out<'o, 'b> {
    pub(crate) inner: &'o mut api::Output<'b>,
    pub(crate) batch: Option<Batch<'b>>,
    pub(crate) now_ms: i64,
    pub(crate) host: HostHandle,
}

impl<'b> Out<'_, 'b> {
    #[inline]
    pub fn emit(&mut self, record: Record<'b>) {
        self.inner.emit(record.0);
    }

    /// Room for `len` bytes, initialised but not cleared.
    #[inline]
    pub fn alloc(&mut self, len: usize) -> &'b mut [u8] {
        self.inner.alloc(len)
    }

    #[inline]
    pub fn copy(&mut self, bytes: &[u8]) -> &'b [u8] {
        self.inner.copy(bytes)
    }

    /// A copy to change in place.
    pub fn copy_mut(&mut self, bytes: &[u8]) -> &'b mut [u8] {
        let copy = self.inner.alloc(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    /// Copies headers, for [`Record::with_headers`].
    pub fn headers(&mut self, headers: &[(&str, Option<&[u8]>)]) -> Headers<'b> {
        let headers: Vec<Header<'b>> = headers
            .iter()
            .map(|(name, value)| {
                let name: RStr<'b> = self.inner.copy_str(name);
                Header {
                    name,
                    value: Bytes::from_option(value.map(|value| self.inner.copy(value))),
                }
            })
            .collect();
        Headers(self.inner.copy_headers(&headers))
    }

    /// The host's wall clock when this call began, unix milliseconds: costs nothing.
    pub fn call_time_ms(&self) -> i64 {
        self.now_ms
    }

    /// The host's wall clock now, unix milliseconds.
    pub fn clock_ms(&self) -> i64 {
        self.host.clock_ms()
    }

    /// Refuses a record other than the one at hand, which is refused by returning [`crate::Error::Record`].
    pub fn refuse(&mut self, record: &Record<'_>, code: &str, message: &str) {
        self.inner.fail(Failure {
            seq: record.0.seq,
            code: code.into(),
            message: message.into(),
            detail: "".into(),
        });
    }

    /// Asks for `on_timer(slot, id, ..)` once the host's wall clock reaches `at_ms`.
    pub fn request_timer(&mut self, slot: u32, id: u64, at_ms: i64) {
        self.inner.request_timer(TimerRequest { slot, id, at_ms });
    }

    /// Topic of a slot; empty for a slot that is none.
    pub fn topic(&self, slot: u32) -> &'b str {
        self.batch.map_or("", |batch| batch.topic(slot))
    }

    /// Partition of a slot; -1 for a slot that is none.
    pub fn partition(&self, slot: u32) -> i32 {
        self.batch.map_or(-1, |batch| batch.partition(slot))
    }

    /// How many partitions the topic of a slot has, as far as the host knows; 0 = not known.
    pub fn partition_count(&self, slot: u32) -> i32 {
        self.batch.map_or(0, |batch| batch.partition_count(slot))
    }
}
