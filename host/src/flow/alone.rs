//! Finds an output that Kafka refuses among those derived from many records (I4). A transaction is lost with it, and a broker
//! refuses a whole batch for one record of it. So after a new start outputs leave one at a time, until one is refused
//! alone. It has no offset to be known by, but made again it holds the same.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use weir_plugin_api::Record;
use weir_plugin_api::host::OwnedBatch;
use xxhash_rust::xxh3::Xxh3;

use super::ledger::Maker;
use super::{Flow, FlowError, Poison};

/// Outputs known to be good that are remembered: more begin anew, which costs time and nothing else.
const ACCEPTED_MAX: usize = 100_000;

/// One output at a time.
#[derive(Debug, Default)]
pub(super) struct Alone {
    pub(super) is_wanted: bool,
    /// The output that was handed over last, by its `seq`.
    sent: Option<(u64, Poison)>,
    /// Outputs that Kafka has taken alone. They need not wait when they are made again, so that a search gets further
    /// although its transaction may not stay open for long.
    accepted: BTreeSet<Poison>,
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

    /// The same search, from the last commit again.
    pub(super) fn rewind(&mut self) {
        self.sent = None;
        self.has_refused = false;
    }

    /// Kafka has everything that was handed over.
    fn note_accepted(&mut self) {
        if let Some((_, output)) = self.sent.take() {
            if self.accepted.len() >= ACCEPTED_MAX {
                self.accepted.clear();
            }
            self.accepted.insert(output);
        }
    }

    /// What the output is known by that was handed over alone under this `seq`.
    pub(super) fn sent(&self, seq: u64) -> Option<Poison> {
        let sent = self.sent.as_ref().filter(|(sent, _)| *sent == seq);
        sent.map(|(_, poison)| poison.clone())
    }
}

impl Flow {
    /// Hands outputs to a Kafka sink as far as none has to wait; answers how many left the sink's input.
    pub(super) fn offer_alone(
        &mut self,
        index: usize,
        batch: &Rc<OwnedBatch>,
        range: Range<usize>,
    ) -> Result<usize, FlowError> {
        let mut offered = 0;
        for at in range {
            match self.offer_one(index, batch, at)? {
                0 => break,
                taken => offered += taken,
            }
        }
        Ok(offered)
    }

    /// Hands one output to a Kafka sink, or refuses it where it is known to be at fault. One of which nothing is known
    /// waits until nothing else is on its way. Answers 1 if it left the sink's input, else 0.
    fn offer_one(
        &mut self,
        index: usize,
        batch: &Rc<OwnedBatch>,
        at: usize,
    ) -> Result<usize, FlowError> {
        let Some(record) = batch.records().get(at) else {
            return Ok(0);
        };
        let is_underway = self.has_unflushed();
        if self.alone.sent.is_some() && is_underway {
            return Ok(0);
        }
        self.alone.note_accepted();
        let known = self.ledger.get(record.seq);
        let is_derived = known.is_some_and(|known| known.maker != Maker::Source);
        let output = Poison::Output {
            sink: self.sinks[index].name.clone(),
            hash: hash(record),
        };
        let is_unknown = is_derived && !self.alone.accepted.contains(&output);
        if is_unknown && is_underway {
            return Ok(0);
        }
        if is_unknown && let Some(refusal) = self.poison.get(&output).cloned() {
            self.sinks[index].input.consume(1);
            self.alone.has_refused = true;
            self.refuse(record.seq, &refusal)?;
            self.ledger.done(record.seq);
            return Ok(1);
        }
        self.alone.sent = is_unknown.then_some((record.seq, output));
        let taken = self.hand_over(index, std::slice::from_ref(record))?;
        if taken == 0 {
            self.alone.sent = None;
        }
        Ok(taken)
    }

    /// An output that is known to be at fault was made again, and refused.
    pub fn has_refused_output(&self) -> bool {
        self.alone.has_refused
    }

    /// Outputs leave together again, and none is known to be at fault.
    pub fn end_search(&mut self) {
        self.alone = Alone::default();
        self.poison.retain(|poison, _| !poison.is_output());
    }
}

/// Of everything that is sent.
fn hash(record: &Record<'_>) -> u64 {
    let mut hash = Xxh3::new();
    let mut add = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hash.update(&length.to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    add(record.key.get());
    add(record.value.get());
    add(Some(&record.timestamp_ms.to_le_bytes()));
    for header in record.headers.iter() {
        add(Some(header.name.as_bytes()));
        add(header.value.get());
    }
    hash.digest()
}
