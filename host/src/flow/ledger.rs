//! The settlement ledger: which records are still on their way, whose bytes are still needed, what became of the rest.
//!
//! Every record read (and every record that a transform derives from many) has an entry, found by its `seq`. The entry
//! counts the places where something of the record still is: inputs of nodes, deliveries of sinks, dead letters not yet
//! acknowledged. At zero it is settled. A partition's committed offset never passes an unsettled entry (I1).

use std::collections::VecDeque;
use std::rc::Rc;

use weir_plugin_api::SLOT_ALL;
use weir_plugin_api::host::OwnedBatch;

use crate::metrics::Outcome;

/// What has happened to something of a record, as bits; the outcome of the whole is the first that applies.
pub mod mark {
    pub const DEAD_LETTERED: u8 = 1;
    pub const SKIPPED: u8 = 2;
    pub const DELIVERED: u8 = 4;
    pub const ABSORBED: u8 = 8;
    /// Handed to Kafka; whether it was delivered shows later. No outcome by itself.
    pub const PRODUCED: u8 = 16;
    /// What going back to before the record has to take back.
    pub const TOUCHED: u8 = DEAD_LETTERED | ABSORBED | PRODUCED;
}

fn outcome(marks: u8) -> Outcome {
    const ORDER: [(u8, Outcome); 4] = [
        (mark::DEAD_LETTERED, Outcome::DeadLettered),
        (mark::SKIPPED, Outcome::Skipped),
        (mark::DELIVERED, Outcome::Delivered),
        (mark::ABSORBED, Outcome::Absorbed),
    ];
    ORDER
        .iter()
        .find(|(bit, _)| marks & bit != 0)
        .map_or(Outcome::Filtered, |(_, outcome)| *outcome)
}

/// Who made a run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    Source,
    /// The transform at this index derived them from many records.
    Transform(usize),
}

struct Entry {
    offset: i64,
    slot: u32,
    refs: u32,
    marks: u8,
}

/// Records that were numbered together and share a batch.
struct Run {
    first_seq: u64,
    records: u32,
    /// Entries not settled.
    open: u32,
    /// Places that may still need the original bytes.
    byte_refs: u64,
    /// Keep the bytes until every entry is settled, produced records included: while looking for one that Kafka refuses.
    keep_bytes: bool,
    maker: Maker,
    batch: Option<Rc<OwnedBatch>>,
    /// Where the run's records stand in the batch; empty when record i is the run's record i.
    positions: Vec<u32>,
}

/// A record as the ledger knows it.
pub struct Ledgered {
    pub batch: Option<Rc<OwnedBatch>>,
    pub position: usize,
    pub maker: Maker,
    pub slot: u32,
    pub offset: i64,
}

/// Counts of entries settled since they were last taken.
#[derive(Default)]
pub struct SettledCounts {
    pub source: Vec<(Outcome, u64)>,
    /// (transform, outcome, records)
    pub derived: Vec<(usize, Outcome, u64)>,
}

#[derive(Default)]
pub struct Ledger {
    /// `entries[i]` belongs to seq `base + i`.
    entries: VecDeque<Entry>,
    base: u64,
    runs: VecDeque<Run>,
    /// Index of the run found last: neighbours are settled together.
    last_run: usize,
    counts: SettledCounts,
    open_source: u64,
}

impl Ledger {
    pub fn new() -> Self {
        // 0 stands for "derived", so numbers begin at 1.
        Ledger {
            base: 1,
            ..Ledger::default()
        }
    }

    /// Entries kept: unsettled ones, and settled ones behind the oldest unsettled.
    pub fn kept(&self) -> usize {
        self.entries.len()
    }

    /// Source records that are not settled.
    pub fn pending(&self) -> u64 {
        self.open_source
    }

    pub fn next_seq(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// Numbers a batch of source records, each of which goes to `targets` nodes; answers the first number. The batch
    /// itself follows with [`Ledger::attach`].
    pub fn open_source(
        &mut self,
        slot: u32,
        offsets: impl Iterator<Item = i64>,
        targets: u32,
        keep_bytes: bool,
    ) -> u64 {
        let first = self.open_run(
            Maker::Source,
            offsets.map(|offset| (slot, offset)),
            targets,
            keep_bytes,
            Vec::new(),
        );
        self.open_source += self.next_seq() - first;
        first
    }

    /// Numbers derived records; `positions` says where they stand in their batch. Their bytes stay until all of them are
    /// settled: they are few, and they cannot be read again one at a time to find the one that Kafka refuses.
    pub fn open_derived(&mut self, transform: usize, positions: Vec<u32>, targets: u32) -> u64 {
        let entries = positions.clone();
        let entries = entries.iter().map(|_| (SLOT_ALL, -1));
        self.open_run(
            Maker::Transform(transform),
            entries,
            targets,
            true,
            positions,
        )
    }

    fn open_run(
        &mut self,
        maker: Maker,
        records: impl Iterator<Item = (u32, i64)>,
        targets: u32,
        keep_bytes: bool,
        positions: Vec<u32>,
    ) -> u64 {
        let first_seq = self.next_seq();
        self.entries.extend(records.map(|(slot, offset)| Entry {
            offset,
            slot,
            refs: targets,
            marks: 0,
        }));
        let records = u32::try_from(self.next_seq() - first_seq).unwrap_or(u32::MAX);
        self.runs.push_back(Run {
            first_seq,
            records,
            open: records,
            byte_refs: u64::from(records) * u64::from(targets),
            keep_bytes,
            maker,
            batch: None,
            positions,
        });
        first_seq
    }

    /// Gives the run that begins at `first_seq` its bytes.
    pub fn attach(&mut self, first_seq: u64, batch: &Rc<OwnedBatch>) {
        if let Some(run) = self.find_run(first_seq) {
            self.runs[run].batch = Some(Rc::clone(batch));
        }
    }

    fn find_run(&mut self, seq: u64) -> Option<usize> {
        let holds =
            |run: &Run| seq >= run.first_seq && seq - run.first_seq < u64::from(run.records);
        if self.runs.get(self.last_run).is_some_and(holds) {
            return Some(self.last_run);
        }
        let after = self.runs.partition_point(|run| run.first_seq <= seq);
        let found = after
            .checked_sub(1)
            .filter(|index| holds(&self.runs[*index]))?;
        self.last_run = found;
        Some(found)
    }

    fn entry(&mut self, seq: u64) -> Option<&mut Entry> {
        let index = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(index).filter(|entry| entry.refs > 0)
    }

    /// Something of the record is in `places` more places.
    pub fn add(&mut self, seq: u64, places: u32) {
        let Some(entry) = self.entry(seq) else { return };
        entry.refs += places;
        if let Some(run) = self.find_run(seq) {
            self.runs[run].byte_refs += u64::from(places);
        }
    }

    /// Notes what happened to something of the record; see [`mark`].
    pub fn mark(&mut self, seq: u64, marks: u8) {
        if let Some(entry) = self.entry(seq) {
            entry.marks |= marks;
        }
    }

    /// One place of the record is done, and it needed the bytes until now.
    pub fn done(&mut self, seq: u64) {
        self.release_bytes(seq);
        self.done_without_bytes(seq);
    }

    /// One place of the record will not need the original bytes any more, though it is not done.
    pub fn release_bytes(&mut self, seq: u64) {
        let Some(run) = self.find_run(seq) else {
            return;
        };
        let run = &mut self.runs[run];
        run.byte_refs = run.byte_refs.saturating_sub(1);
        if run.byte_refs == 0 && !run.keep_bytes {
            run.batch = None;
        }
    }

    /// One place of the record is done, whose bytes were released before.
    pub fn done_without_bytes(&mut self, seq: u64) {
        let Some(entry) = self.entry(seq) else { return };
        entry.refs -= 1;
        if entry.refs > 0 {
            return;
        }
        let outcome = outcome(entry.marks);
        let Some(index) = self.find_run(seq) else {
            return;
        };
        let run = &mut self.runs[index];
        run.open -= 1;
        if run.open == 0 {
            run.batch = None;
        }
        match run.maker {
            Maker::Source => {
                self.open_source -= 1;
                count(&mut self.counts.source, outcome);
            }
            Maker::Transform(transform) => {
                let counts = &mut self.counts.derived;
                match counts
                    .iter_mut()
                    .find(|(of, kind, _)| *of == transform && *kind == outcome)
                {
                    Some((_, _, records)) => *records += 1,
                    None => counts.push((transform, outcome, 1)),
                }
            }
        }
        self.forget_settled();
    }

    /// Drops settled runs from the front.
    fn forget_settled(&mut self) {
        while self.runs.front().is_some_and(|run| run.open == 0) {
            if let Some(run) = self.runs.pop_front() {
                self.entries.drain(..run.records as usize);
                self.base += u64::from(run.records);
                self.last_run = self.last_run.saturating_sub(1);
            }
        }
    }

    /// The record behind an unsettled `seq`.
    pub fn get(&mut self, seq: u64) -> Option<Ledgered> {
        let (slot, offset) = self.entry(seq).map(|entry| (entry.slot, entry.offset))?;
        let index = self.find_run(seq)?;
        let run = &self.runs[index];
        let at = usize::try_from(seq - run.first_seq).ok()?;
        let position = run
            .positions
            .get(at)
            .map_or(at, |position| *position as usize);
        Some(Ledgered {
            batch: run.batch.clone(),
            position,
            maker: run.maker,
            slot,
            offset,
        })
    }

    /// I1: lowers `offsets[slot]` (the next offset to read) to the slot's first unsettled offset.
    pub fn lower_to_unsettled(&self, offsets: &mut [i64]) {
        for entry in self.entries.iter().filter(|entry| entry.refs > 0) {
            if let Some(offset) = offsets.get_mut(entry.slot as usize) {
                *offset = (*offset).min(entry.offset);
            }
        }
    }

    /// I1, I4: lowers `offsets` like [`Ledger::lower_to_unsettled`] and answers whether they are an aligned cut: nothing of
    /// a record at or past them has left the task or is in any state, and no derived record is on its way.
    pub fn cut(&self, offsets: &mut [i64]) -> bool {
        self.lower_to_unsettled(offsets);
        let is_behind = |entry: &Entry| {
            let offset = offsets.get(entry.slot as usize);
            offset.is_none_or(|offset| entry.offset < *offset)
        };
        let is_derived_open = |run: &Run| run.maker != Maker::Source && run.open > 0;
        !self.runs.iter().any(is_derived_open)
            && self
                .entries
                .iter()
                .all(|entry| entry.marks & mark::TOUCHED == 0 || is_behind(entry))
    }

    /// Forgets every record; numbers go on rising.
    pub fn forget(&mut self) {
        *self = Ledger {
            base: self.next_seq(),
            ..Ledger::default()
        };
    }

    pub fn take_counts(&mut self) -> SettledCounts {
        std::mem::take(&mut self.counts)
    }
}

fn count(counts: &mut Vec<(Outcome, u64)>, outcome: Outcome) {
    match counts.iter_mut().find(|(kind, _)| *kind == outcome) {
        Some((_, records)) => *records += 1,
        None => counts.push((outcome, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Rc<OwnedBatch> {
        Rc::new(OwnedBatch::copy_of([]))
    }

    fn frontier(ledger: &Ledger, mut next: Vec<i64>) -> Vec<i64> {
        ledger.lower_to_unsettled(&mut next);
        next
    }

    #[test]
    fn the_frontier_is_the_contiguous_settled_prefix_of_each_partition() {
        let mut ledger = Ledger::new();
        let first = ledger.open_source(0, [10, 11, 15].into_iter(), 1, false);
        let second = ledger.open_source(1, [7, 8].into_iter(), 1, false);
        assert_eq!(frontier(&ledger, vec![16, 9]), [10, 7]);
        ledger.done(first + 1);
        assert_eq!(frontier(&ledger, vec![16, 9]), [10, 7]);
        ledger.done(first);
        assert_eq!(frontier(&ledger, vec![16, 9]), [15, 7]);
        ledger.done(second);
        ledger.done(second + 1);
        assert_eq!(frontier(&ledger, vec![16, 9]), [15, 9]);
        ledger.done(first + 2);
        assert_eq!(frontier(&ledger, vec![16, 9]), [16, 9]);
        assert_eq!((ledger.kept(), ledger.pending()), (0, 0));
    }

    #[test]
    fn a_record_is_settled_when_every_place_is() {
        let mut ledger = Ledger::new();
        let seq = ledger.open_source(0, [5].into_iter(), 2, false);
        ledger.add(seq, 1);
        ledger.done(seq);
        ledger.done(seq);
        assert_eq!(frontier(&ledger, vec![6]), [5]);
        ledger.mark(seq, mark::DELIVERED);
        ledger.done(seq);
        assert_eq!(frontier(&ledger, vec![6]), [6]);
        assert_eq!(ledger.take_counts().source, [(Outcome::Delivered, 1)]);
        ledger.done(seq);
        assert_eq!(ledger.pending(), 0);
    }

    #[test]
    fn the_first_outcome_that_applies_is_counted() {
        let mut ledger = Ledger::new();
        let seq = ledger.open_source(0, 0..3, 1, false);
        ledger.mark(seq, mark::DELIVERED | mark::DEAD_LETTERED);
        ledger.mark(seq + 1, mark::ABSORBED);
        (0..3).for_each(|n| ledger.done(seq + n));
        let counts = ledger.take_counts().source;
        assert_eq!(
            counts,
            [
                (Outcome::DeadLettered, 1),
                (Outcome::Absorbed, 1),
                (Outcome::Filtered, 1)
            ]
        );
    }

    #[test]
    fn bytes_go_when_nobody_needs_them_and_stay_when_told() {
        let mut ledger = Ledger::new();
        let bytes = batch();
        for keep in [false, true] {
            let seq = ledger.open_source(0, 0..2, 1, keep);
            ledger.attach(seq, &bytes);
            assert_eq!(Rc::strong_count(&bytes), 2);
            ledger.release_bytes(seq);
            ledger.release_bytes(seq + 1);
            assert_eq!(Rc::strong_count(&bytes), if keep { 2 } else { 1 });
            ledger.done_without_bytes(seq);
            ledger.done_without_bytes(seq + 1);
            assert_eq!(Rc::strong_count(&bytes), 1);
        }
    }

    #[test]
    fn a_cut_is_aligned_where_nothing_past_it_was_touched() {
        let mut ledger = Ledger::new();
        let first = ledger.open_source(0, 0..3, 1, false);
        let mut offsets = [3];
        assert!(ledger.cut(&mut offsets), "nothing was touched");
        assert_eq!(offsets, [0]);
        ledger.mark(first + 1, mark::PRODUCED);
        assert!(!ledger.cut(&mut [3]), "1 was produced, 0 is open");
        ledger.done(first);
        assert!(!ledger.cut(&mut [3]), "1 may be refused yet");
        ledger.done(first + 1);
        let mut offsets = [3];
        assert!(ledger.cut(&mut offsets), "2 waits untouched");
        assert_eq!(offsets, [2]);
        ledger.forget();
        assert_eq!((ledger.pending(), ledger.kept()), (0, 0));
        assert!(ledger.open_source(0, 0..1, 1, false) > first + 2);
    }

    #[test]
    fn derived_records_hold_no_offset_but_are_known_until_settled() {
        let mut ledger = Ledger::new();
        let source = ledger.open_source(0, 3..4, 1, false);
        let derived = ledger.open_derived(2, vec![4, 6], 1);
        ledger.attach(derived, &batch());
        assert_eq!(frontier(&ledger, vec![4]), [3]);
        assert!(!ledger.cut(&mut [4]), "derived records are on their way");
        let known = ledger.get(derived + 1).expect("known");
        assert_eq!(
            (known.position, known.maker, known.offset),
            (6, Maker::Transform(2), -1)
        );
        ledger.done(source);
        assert_eq!(frontier(&ledger, vec![4]), [4]);
        ledger.done(derived);
        ledger.mark(derived + 1, mark::DELIVERED);
        ledger.done(derived + 1);
        assert!(ledger.cut(&mut [4]));
        assert_eq!(
            ledger.take_counts().derived,
            [(2, Outcome::Filtered, 1), (2, Outcome::Delivered, 1)]
        );
    }
}
