//! Hands a run of records to librdkafka in one call: the other module of the host that calls librdkafka directly.
//!
//! `rd_kafka_produce_batch` costs 12,176 instructions a record where `producev` costs 13,188 (callgrind, whole path).

use std::ffi::{CString, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use weir_plugin_api::Record;

/// `RD_KAFKA_PARTITION_UA`: a C macro, which the bindings do not carry.
const PARTITION_UNASSIGNED: i32 = -1;

/// A topic of one producer; not used past the producer, which its owner keeps beside it.
pub(super) struct ProducerTopic {
    topic: NonNull<sys::rd_kafka_topic_t>,
    messages: Vec<sys::rd_kafka_message_t>,
}

/// How far a batch came.
#[derive(Default)]
pub(super) struct Produced {
    /// Records from the front that librdkafka took or refused for good; the next did not fit into its queue.
    pub(super) handled: usize,
    /// Which of these it refused, as (index, reason), rising.
    pub(super) refused: Vec<(usize, RDKafkaErrorCode)>,
}

impl ProducerTopic {
    /// `None` for a name that librdkafka refuses.
    pub(super) fn new<C: ProducerContext>(producer: &BaseProducer<C>, topic: &str) -> Option<Self> {
        let name = CString::new(topic).ok()?;
        // SAFETY: the client lives; a null configuration means the client's default topic configuration.
        let topic = unsafe {
            sys::rd_kafka_topic_new(
                producer.client().native_ptr(),
                name.as_ptr(),
                std::ptr::null_mut(),
            )
        };
        NonNull::new(topic).map(|topic| ProducerTopic {
            topic,
            messages: Vec::new(),
        })
    }

    /// Copies key and value of each record. The partitioner of the client's configuration chooses the partition.
    /// Headers and timestamps are not carried: librdkafka's batch call has no room for them.
    pub(super) fn produce(&mut self, records: &[Record<'_>]) -> Produced {
        self.messages.clear();
        self.messages.extend(records.iter().map(|record| {
            let (key, key_len) = raw(record.key.get());
            let (payload, len) = raw(record.value.get());
            sys::rd_kafka_message_t {
                err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: std::ptr::null_mut(),
                partition: PARTITION_UNASSIGNED,
                payload,
                len,
                key,
                key_len,
                offset: 0,
                // The delivery report of a failed message brings it back.
                _private: record.seq as usize as *mut c_void,
            }
        }));
        let count = i32::try_from(self.messages.len()).unwrap_or(i32::MAX);
        // SAFETY: the topic lives; the messages point into `records`, which outlive the call, and F_COPY makes librdkafka
        // copy them before it returns.
        let taken = unsafe {
            sys::rd_kafka_produce_batch(
                self.topic.as_ptr(),
                PARTITION_UNASSIGNED,
                sys::RD_KAFKA_MSG_F_COPY,
                self.messages.as_mut_ptr(),
                count,
            )
        };
        let mut produced = Produced {
            handled: self.messages.len(),
            refused: Vec::new(),
        };
        if taken == count {
            return produced;
        }
        for (index, message) in self.messages.iter().enumerate() {
            match message.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                // From the first that finds the queue full, librdkafka takes no more of the batch.
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL => {
                    produced.handled = index;
                    break;
                }
                error => produced
                    .refused
                    .push((index, RDKafkaErrorCode::from(error))),
            }
        }
        produced
    }
}

impl Drop for ProducerTopic {
    fn drop(&mut self) {
        // SAFETY: obtained once by `rd_kafka_topic_new`, given back once.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

fn raw(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((std::ptr::null_mut(), 0), |bytes| {
        (bytes.as_ptr().cast_mut().cast(), bytes.len())
    })
}

/// Waits until every message is delivered or has failed, at most `wait`; answers whether that is so.
///
/// rdkafka's own `flush` polls for events in steps of up to 100 ms, which with error-only delivery reports would
/// be the latency of every commit.
pub(super) fn flush<C: ProducerContext>(producer: &BaseProducer<C>, wait: Duration) -> bool {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives.
    let error = unsafe { sys::rd_kafka_flush(producer.client().native_ptr(), wait_ms) };
    error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}
