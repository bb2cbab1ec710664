//! An outbox that keeps what is written.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use weir_plugin_api::Record;

use crate::flow::Outbox;
use crate::kafka::DeliveryFailure;

/// What `sink` is called for dead letters.
pub const DEAD_LETTERS: &str = "dlq";

/// A record that left the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name of the sink, or [`DEAD_LETTERS`].
    pub sink: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Shared with the test that reads it.
#[derive(Clone, Default)]
pub struct Capture(pub Rc<RefCell<Vec<Output>>>);

fn output(sink: &str, record: &Record<'_>, extra: &[(&str, &str)]) -> Output {
    let own = record.headers.iter().map(|header| {
        (
            header.name.to_string(),
            header.value.get().map(<[u8]>::to_vec),
        )
    });
    let extra = extra
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())));
    Output {
        sink: sink.to_owned(),
        key: record.key.get().map(<[u8]>::to_vec),
        value: record.value.get().map(<[u8]>::to_vec),
        headers: own.chain(extra).collect(),
    }
}

impl Outbox for Capture {
    fn produce(&mut self, sink: &str, _topic: &str, records: &[Record<'_>]) -> usize {
        self.0
            .borrow_mut()
            .extend(records.iter().map(|record| output(sink, record, &[])));
        records.len()
    }

    fn dead_letter(&mut self, _topic: &str, record: &Record<'_>, headers: &[(&str, &str)]) -> bool {
        self.0
            .borrow_mut()
            .push(output(DEAD_LETTERS, record, headers));
        true
    }

    fn flush(&mut self, _wait: Duration) -> bool {
        true
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        Vec::new()
    }

    fn fatal_error(&self) -> Option<String> {
        None
    }
}
