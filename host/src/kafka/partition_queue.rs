//! Reads one partition's fetch queue a batch at a time, without copying: one of the two modules of the host that call
//! librdkafka directly.
//!
//! Why not through rdkafka's `poll`: one message an event costs 1,416 + 646 instructions a record, a batch read 268 + 302
//! (callgrind). Why a queue for each partition: rebalance events stand in the consumer's main queue, so that a plugin
//! that is slow on one partition delays neither them nor the other partitions, and nothing needs to be paused.

use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use weir_plugin_api::abi_stable::std_types::{RSlice, RStr, RVec};
use weir_plugin_api::host::{Arena, OwnedBatch};
use weir_plugin_api::{Bytes, Header, NO_TIMESTAMP, Record, timestamp_type};

/// The fetch queue of one assigned partition. Dropped before its consumer, which it keeps alive.
pub struct PartitionQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// What the wake-up callback is given, from `Box::into_raw`; lives as long as the callback is set.
    wake: NonNull<Thread>,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    _consumer: Arc<dyn Any>,
}

/// Something in the queue that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueEvent {
    /// Everything below this offset was read, control records included.
    EndOfPartition { end_offset: i64 },
    /// The position is outside of what the broker holds (`auto.offset.reset` is never left to librdkafka).
    PositionOutOfRange { message: String },
    /// Any other error of this partition; librdkafka goes on by itself.
    Error {
        code: RDKafkaErrorCode,
        message: String,
    },
}

/// What one read found. `records` is empty where there were only events.
#[derive(Default)]
pub struct FetchedBatch {
    messages: Messages,
    pub events: Vec<QueueEvent>,
}

/// Messages that librdkafka lends until they are destroyed.
#[derive(Default)]
struct Messages(Vec<NonNull<sys::rd_kafka_message_t>>);

unsafe extern "C" fn wake_task(_: *mut sys::rd_kafka_t, thread: *mut c_void) {
    // SAFETY: `enable_wake_up` passed a `Thread` that outlives the callback's registration.
    unsafe { &*thread.cast::<Thread>() }.unpark();
}

impl PartitionQueue {
    /// Splits the partition off the consumer's main queue. Valid for one assignment. `wake` is unparked when the queue
    /// becomes non-empty. `None` for a name that librdkafka refuses.
    pub fn split<C: ConsumerContext + 'static>(
        consumer: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: i32,
        wake: Thread,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives (the `Arc` is held), the name is a C string; null is checked below.
        let queue = unsafe { sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        let queue = NonNull::new(queue)?;
        let wake = NonNull::from(Box::leak(Box::new(wake)));
        // SAFETY: the queue was just obtained; forwarding to null makes it stand alone and marks it as the application's,
        // so that a later fetch start does not forward it again; `wake` lives until `drop` has unset the callback.
        unsafe {
            sys::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut());
            sys::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(wake_task),
                wake.as_ptr().cast(),
            );
        }
        let consumer: Arc<dyn Any> = Arc::clone(consumer) as Arc<dyn Any>;
        Some(PartitionQueue {
            queue,
            wake,
            messages: Vec::new(),
            _consumer: consumer,
        })
    }

    /// Takes at most `limit` messages that are there, without waiting.
    pub fn read(&mut self, limit: usize) -> FetchedBatch {
        self.messages.resize(limit, std::ptr::null_mut());
        // SAFETY: the queue lives; the array has room for `limit` pointers; a timeout of 0 does not block. Each
        // pointer written is ours to destroy.
        let read = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                self.messages.as_mut_ptr(),
                limit,
            )
        };
        let read = usize::try_from(read).unwrap_or(0);
        let mut batch = FetchedBatch {
            messages: Messages(Vec::with_capacity(read)),
            events: Vec::new(),
        };
        for message in self.messages.drain(..).take(read).filter_map(NonNull::new) {
            // SAFETY: librdkafka wrote a valid message.
            let error = unsafe { message.as_ref() }.err;
            if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                batch.messages.0.push(message);
            } else {
                // Destroyed at the end of the statement.
                batch.events.push(Messages(vec![message]).event(error));
            }
        }
        batch
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: unsetting the callback takes the queue's lock, under which it is called, so that afterwards nothing uses
        // `wake`, which came from a box; the reference obtained in `split` is given back once.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, std::ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
            drop(Box::from_raw(self.wake.as_ptr()));
        }
    }
}

impl Messages {
    fn event(&self, error: RDKafkaRespErr) -> QueueEvent {
        let code = RDKafkaErrorCode::from(error);
        let Some(message) = self.0.first() else {
            return QueueEvent::Error {
                code,
                message: code.to_string(),
            };
        };
        // SAFETY: the message is alive; the error string is a C string or null, owned by the message.
        let (offset, text) = unsafe {
            let text = sys::rd_kafka_message_errstr(message.as_ptr());
            let text =
                (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
            (
                message.as_ref().offset,
                text.unwrap_or_else(|| code.to_string()),
            )
        };
        match code {
            RDKafkaErrorCode::PartitionEOF => QueueEvent::EndOfPartition { end_offset: offset },
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                QueueEvent::PositionOutOfRange { message: text }
            }
            code => QueueEvent::Error {
                code,
                message: text,
            },
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in &self.0 {
            // SAFETY: each message came from `rd_kafka_consume_batch_queue` and is destroyed once. librdkafka keeps what
            // a message needs alive by reference counts, also past the consumer's close.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }
}

impl FetchedBatch {
    pub fn len(&self) -> usize {
        self.messages.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.0.is_empty()
    }

    /// Offsets of the records, rising.
    pub fn offsets(&self) -> impl Iterator<Item = i64> {
        // SAFETY: the messages are alive as long as `self`.
        self.messages
            .0
            .iter()
            .map(|message| unsafe { message.as_ref() }.offset)
    }

    /// A batch that borrows the messages and keeps them; records are numbered from `first_seq`.
    pub fn into_batch(self, slot: u32, first_seq: u64) -> OwnedBatch {
        let mut arena = HeaderArena::default();
        let mut records = RVec::with_capacity(self.messages.0.len());
        for (message, seq) in self.messages.0.iter().zip(first_seq..) {
            // SAFETY: the message lives as long as the batch, which is given the messages as its origin; header
            // slices live in `arena`, which goes the same way.
            records.push(unsafe { record_of(*message, slot, seq, &mut arena) });
        }
        let origin = Box::new((self.messages, arena));
        // SAFETY: key, value and header bytes lie in librdkafka's buffers, held by `messages`; header arrays in boxed
        // slices, held by `arena`: neither moves when its owner does.
        unsafe { OwnedBatch::from_parts(records, Arena::default(), origin) }
    }
}

/// Header arrays of a batch; most records have none.
#[derive(Default)]
struct HeaderArena(Vec<Box<[Header<'static>]>>);

/// # Safety
/// The message and `headers` outlive every use of the record.
unsafe fn record_of(
    message: NonNull<sys::rd_kafka_message_t>,
    slot: u32,
    seq: u64,
    headers: &mut HeaderArena,
) -> Record<'static> {
    // SAFETY: alive by contract; payload and key are null or valid for their lengths.
    unsafe {
        let raw = message.as_ref();
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp_ms = sys::rd_kafka_message_timestamp(message.as_ptr(), &mut kind);
        let (timestamp_ms, timestamp_type) = match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => {
                (timestamp_ms, timestamp_type::CREATE_TIME)
            }
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
                (timestamp_ms, timestamp_type::LOG_APPEND_TIME)
            }
            _ => (NO_TIMESTAMP, timestamp_type::NONE),
        };
        // A producer may send -1 as its timestamp.
        let timestamp_type = if timestamp_ms < 0 {
            timestamp_type::NONE
        } else {
            timestamp_type
        };
        Record {
            key: Bytes::from_raw(raw.key.cast(), raw.key_len),
            value: Bytes::from_raw(raw.payload.cast(), raw.len),
            headers: headers_of(message, headers),
            timestamp_ms: timestamp_ms.max(NO_TIMESTAMP),
            offset: raw.offset,
            seq,
            slot,
            timestamp_type,
        }
    }
}

/// # Safety
/// As for [`record_of`].
unsafe fn headers_of(
    message: NonNull<sys::rd_kafka_message_t>,
    arena: &mut HeaderArena,
) -> RSlice<'static, Header<'static>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: alive by contract; the list stays the message's.
    let found = unsafe { sys::rd_kafka_message_headers(message.as_ptr(), &mut list) };
    if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || list.is_null() {
        return RSlice::EMPTY;
    }
    let mut headers = Vec::new();
    loop {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the list is valid; outputs are plain locals.
        let got = unsafe {
            sys::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size)
        };
        if got != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            break;
        }
        // SAFETY: name is a C string and value null or `size` bytes, both owned by the message.
        headers.push(unsafe {
            Header {
                name: header_name(name),
                value: Bytes::from_raw(value.cast(), size),
            }
        });
    }
    arena.0.push(headers.into_boxed_slice());
    match arena.0.last() {
        // SAFETY: a boxed slice keeps its address; `arena` outlives the record by contract.
        Some(stored) => unsafe { RSlice::from_raw_parts(stored.as_ptr(), stored.len()) },
        None => RSlice::EMPTY,
    }
}

/// Kafka's header names are UTF-8 by specification; one that is not shows as an empty name rather than ending anything.
///
/// # Safety
/// `name` is a C string that outlives every use of the result.
unsafe fn header_name(name: *const std::ffi::c_char) -> RStr<'static> {
    // SAFETY: by contract.
    let name: &'static CStr = unsafe { CStr::from_ptr(name) };
    RStr::from(name.to_str().unwrap_or_default())
}
