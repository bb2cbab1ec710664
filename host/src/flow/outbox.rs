//! Where records leave for Kafka: sinks of type `kafka` and dead letters.

use std::time::Duration;

use weir_plugin_api::Record;

use crate::kafka::{DeliveryFailure, Producer};

/// One per task. A completed flush settles everything handed over before it that no failure names.
pub trait Outbox {
    /// Takes records from the front, in order, and answers how many; fewer when it is full.
    fn produce(&mut self, sink: &str, topic: &str, records: &[Record<'_>]) -> usize;

    /// One dead letter with the original's key, value, headers and timestamp; false when full.
    fn dead_letter(&mut self, topic: &str, record: &Record<'_>, headers: &[(&str, &str)]) -> bool;

    /// Waits at most `wait`; true when nothing is on its way any more.
    fn flush(&mut self, wait: Duration) -> bool;

    /// Records that were refused since the last call.
    fn take_failures(&mut self) -> Vec<DeliveryFailure>;

    /// Why nothing can be written any more.
    fn fatal_error(&self) -> Option<String>;
}

impl Outbox for Producer {
    fn produce(&mut self, _sink: &str, topic: &str, records: &[Record<'_>]) -> usize {
        let handled = Producer::produce(self, topic, records);
        self.poll();
        handled
    }

    fn dead_letter(&mut self, topic: &str, record: &Record<'_>, headers: &[(&str, &str)]) -> bool {
        self.produce_one(topic, record, headers)
    }

    fn flush(&mut self, wait: Duration) -> bool {
        Producer::flush(self, wait)
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        Producer::take_failures(self)
    }

    fn fatal_error(&self) -> Option<String> {
        Producer::fatal_error(self)
    }
}
