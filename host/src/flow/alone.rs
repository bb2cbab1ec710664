//! Finds an output that Kafka refuses among those derived from many records (I4). A transaction is lost with it, and a broker
//! refuses a whole batch for one record of it. So after a new start outputs leave one at a time, until one is refused
//! alone. It has no offset to be known by, but made again it holds the same.

use std::rc::Rc;

use weir_plugin_api::Record;
use weir_plugin_api::host::OwnedBatch;
use xxhash_rust::xxh3::Xxh3;

use super::ledger::Maker;
use super::{Flow, FlowError, Poison, Target, mark};

/// One output at a time.
#[derive(Debug, Default)]
pub(super) struct Alone {
    pub(super) is_wanted: bool,
    /// The output that was handed over last, by its `seq`.
    sent: Option<(u64, Poison)>,
    /// An output that was known to be at fault was refused.
    has_refused: bool,
}

impl Alone {
    pub(super) fn new(is_wanted: bool) -> Self {
        Alone {
            is_wanted,
            ..Alone::default()
        }
    }

    /// What the output is known by that was handed over alone under this `seq`.
    pub(super) fn sent(&self, seq: u64) -> Option<Poison> {
        let sent = self.sent.as_ref().filter(|(sent, _)| *sent == seq);
        sent.map(|(_, poison)| poison.clone())
    }
}

impl Flow {
    /// Hands one output to a Kafka sink when nothing is on its way there, or refuses it where it is known to be at fault.
    /// Answers how many left the sink's input.
    pub(super) fn offer_alone(
        &mut self,
        index: usize,
        batch: &Rc<OwnedBatch>,
        at: usize,
    ) -> Result<usize, FlowError> {
        let Some(record) = batch.records().get(at) else {
            return Ok(0);
        };
        let node = &mut self.sinks[index];
        let Target::Kafka { topic } = &node.target else {
            return Ok(0);
        };
        let known = self.ledger.get(record.seq);
        let is_derived = known.is_some_and(|known| known.maker != Maker::Source);
        let poison = Poison::Output {
            sink: node.name.clone(),
            hash: hash(record),
        };
        if is_derived && let Some(refusal) = self.poison.get(&poison).cloned() {
            node.input.consume(1);
            self.alone.has_refused = true;
            self.refuse(record.seq, &refusal)?;
            self.ledger.done(record.seq);
            return Ok(1);
        }
        if !self.unflushed.is_empty() || !self.unflushed_dead_letters.is_empty() {
            return Ok(0);
        }
        let taken = self
            .outbox
            .produce(&node.name, topic, std::slice::from_ref(record));
        if taken == 0 {
            return Ok(0);
        }
        node.input.consume(1);
        self.ledger.mark(record.seq, mark::PRODUCED);
        self.unflushed.push(record.seq);
        self.alone.sent = is_derived.then_some((record.seq, poison));
        let refused = self.take_failures();
        self.ledger.release_bytes(record.seq);
        refused.map(|()| 1)
    }

    /// After a commit: true when the output that was looked for is behind it. They leave together again.
    pub fn has_passed_refused_output(&mut self) -> bool {
        let has_passed = std::mem::take(&mut self.alone.has_refused);
        if has_passed {
            self.alone = Alone::default();
            self.poison.retain(|poison, _| !poison.is_output());
        }
        has_passed
    }
}

/// Of key and value, each with its length.
fn hash(record: &Record<'_>) -> u64 {
    let mut hash = Xxh3::new();
    for bytes in [record.key.get(), record.value.get()] {
        let bytes = bytes.unwrap_or_default();
        hash.update(&bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    hash.digest()
}
