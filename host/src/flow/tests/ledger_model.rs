//! The ledger against a list of records and of the places where something of them is: whatever happens in whatever order,
//! both agree on what is unsettled, where a cut would be, whose bytes are kept, and what became of everything.

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use weir_plugin_api::host::OwnedBatch;

use super::super::ledger::{Ledger, Maker, mark};
use crate::metrics::Outcome;

const SLOTS: usize = 3;
const MARKS: [u8; 5] = [
    mark::DEAD_LETTERED,
    mark::SKIPPED,
    mark::DELIVERED,
    mark::ABSORBED,
    mark::PRODUCED,
];

/// Numbers pick among what there is, by remainder.
#[derive(Debug, Clone)]
enum Op {
    OpenSource {
        slot: usize,
        /// From one record to the next: compaction and markers leave gaps.
        steps: Vec<i64>,
        targets: u32,
        keep_bytes: bool,
    },
    OpenDerived {
        records: usize,
        targets: u32,
    },
    Add {
        place: usize,
        places: u32,
    },
    Mark {
        place: usize,
        mark: usize,
    },
    Done {
        place: usize,
    },
    ReleaseBytes {
        place: usize,
    },
    Forget,
}

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<usize>;
    prop_oneof![
        3 => (0..SLOTS, prop::collection::vec(1..4_i64, 1..6), 1..4_u32, any::<bool>()).prop_map(
            |(slot, steps, targets, keep_bytes)| Op::OpenSource { slot, steps, targets, keep_bytes }
        ),
        1 => (1..4_usize, 1..3_u32).prop_map(|(records, targets)| Op::OpenDerived { records, targets }),
        2 => (pick(), 1..3_u32).prop_map(|(place, places)| Op::Add { place, places }),
        5 => (pick(), pick()).prop_map(|(place, mark)| Op::Mark { place, mark }),
        20 => pick().prop_map(|place| Op::Done { place }),
        4 => pick().prop_map(|place| Op::ReleaseBytes { place }),
        1 => Just(Op::Forget),
    ]
}

struct Entry {
    run: usize,
    /// `None` for a derived record.
    at: Option<(usize, i64)>,
    places: u32,
    marks: u8,
}

struct Run {
    bytes: Rc<OwnedBatch>,
    keep_bytes: bool,
    /// Nobody needed them once: they are not fetched back.
    is_dropped: bool,
    first_seq: u64,
}

/// A place of a record that is not done.
struct Place {
    seq: u64,
    is_released: bool,
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    runs: Vec<Run>,
    places: Vec<Place>,
    next: [i64; SLOTS],
    settled: BTreeMap<(bool, String), u64>,
}

impl Model {
    fn open(&mut self, first_seq: u64, at: Vec<Option<(usize, i64)>>, targets: u32, keep: bool) {
        let run = self.runs.len();
        self.runs.push(Run {
            bytes: Rc::new(OwnedBatch::copy_of([])),
            keep_bytes: keep,
            is_dropped: false,
            first_seq,
        });
        for (seq, at) in (first_seq..).zip(at) {
            let entry = Entry {
                run,
                at,
                places: targets,
                marks: 0,
            };
            self.entries.insert(seq, entry);
            self.add(seq, targets);
        }
    }

    fn add(&mut self, seq: u64, places: u32) {
        let place = || Place {
            seq,
            is_released: false,
        };
        self.places.extend((0..places).map(|_| place()));
    }

    fn drop_bytes(&mut self, run: usize) {
        let of_run = |place: &&Place| self.entries[&place.seq].run == run;
        let mut of_run = self.places.iter().filter(of_run);
        let is_needed = of_run.any(|place| !place.is_released);
        let run_is_open = self.places.iter().any(|p| self.entries[&p.seq].run == run);
        let known = &mut self.runs[run];
        known.is_dropped |= !run_is_open || (!is_needed && !known.keep_bytes);
    }

    fn done(&mut self, at: usize) {
        let seq = self.places.swap_remove(at).seq;
        let entry = self.entries.get_mut(&seq).expect("known");
        entry.places -= 1;
        let (run, places, marks) = (entry.run, entry.places, entry.marks);
        let is_source = entry.at.is_some();
        if places == 0 {
            let outcome = outcome(marks);
            *self
                .settled
                .entry((is_source, format!("{outcome:?}")))
                .or_insert(0) += 1;
        }
        self.drop_bytes(run);
    }

    /// The first unsettled offset of each slot, or the next to read.
    fn frontier(&self) -> Vec<i64> {
        let mut frontier = self.next.to_vec();
        for entry in self.entries.values().filter(|entry| entry.places > 0) {
            if let Some((slot, offset)) = entry.at {
                frontier[slot] = frontier[slot].min(offset);
            }
        }
        frontier
    }

    /// Over every record since the last going back, settled ones included.
    fn is_cut(&self) -> bool {
        let frontier = self.frontier();
        self.entries.values().all(|entry| match entry.at {
            None => entry.places == 0,
            Some((slot, offset)) => entry.marks & mark::TOUCHED == 0 || offset < frontier[slot],
        })
    }

    fn pending(&self) -> u64 {
        let open = |entry: &&Entry| entry.at.is_some() && entry.places > 0;
        self.entries.values().filter(open).count() as u64
    }
}

/// CONTRACT section 8: the first that applies.
fn outcome(marks: u8) -> Outcome {
    match marks {
        _ if marks & mark::DEAD_LETTERED != 0 => Outcome::DeadLettered,
        _ if marks & mark::SKIPPED != 0 => Outcome::Skipped,
        _ if marks & mark::DELIVERED != 0 => Outcome::Delivered,
        _ if marks & mark::ABSORBED != 0 => Outcome::Absorbed,
        _ => Outcome::Filtered,
    }
}

fn apply(op: &Op, ledger: &mut Ledger, model: &mut Model) {
    let pick = |of: usize| move |place: &usize| place.checked_rem(of);
    let count = model.places.len();
    match op {
        Op::OpenSource {
            slot,
            steps,
            targets,
            keep_bytes,
        } => {
            let mut offsets = Vec::new();
            for step in steps {
                let offset = model.next[*slot] + step - 1;
                offsets.push(offset);
                model.next[*slot] = offset + 1;
            }
            let numbered = offsets.iter().copied();
            let first = ledger.open_source(
                u32::try_from(*slot).expect("small"),
                numbered,
                *targets,
                *keep_bytes,
            );
            let at = offsets.into_iter().map(|offset| Some((*slot, offset)));
            model.open(first, at.collect(), *targets, *keep_bytes);
            attach(ledger, model);
        }
        Op::OpenDerived { records, targets } => {
            let positions = (0..*records).map(|at| at as u32 * 2).collect();
            let first = ledger.open_derived(7, positions, *targets);
            model.open(first, vec![None; *records], *targets, true);
            attach(ledger, model);
        }
        Op::Add { place, places } => {
            let Some(at) = pick(count)(place) else { return };
            let seq = model.places[at].seq;
            ledger.add(seq, *places);
            model.entries.get_mut(&seq).expect("known").places += places;
            model.add(seq, *places);
        }
        Op::Mark { place, mark } => {
            let Some(at) = pick(count)(place) else { return };
            let (seq, mark) = (model.places[at].seq, MARKS[mark % MARKS.len()]);
            ledger.mark(seq, mark);
            model.entries.get_mut(&seq).expect("known").marks |= mark;
        }
        Op::Done { place } => {
            let Some(at) = pick(count)(place) else { return };
            let Place { seq, is_released } = model.places[at];
            match is_released {
                true => ledger.done_without_bytes(seq),
                false => ledger.done(seq),
            }
            model.done(at);
        }
        Op::ReleaseBytes { place } => {
            let Some(at) = pick(count)(place) else { return };
            let place = &mut model.places[at];
            if std::mem::replace(&mut place.is_released, true) {
                return;
            }
            let seq = place.seq;
            ledger.release_bytes(seq);
            model.drop_bytes(model.entries[&seq].run);
        }
        Op::Forget => {
            ledger.forget();
            let settled = std::mem::take(&mut model.settled);
            // What was not taken yet goes too; the task takes it before.
            drop(settled);
            *model = Model {
                next: model.frontier().try_into().expect("as many slots"),
                ..Model::default()
            };
        }
    }
}

fn attach(ledger: &mut Ledger, model: &Model) {
    let run = model.runs.last().expect("just opened");
    ledger.attach(run.first_seq, &run.bytes);
}

fn check(ledger: &mut Ledger, model: &mut Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(ledger.pending(), model.pending());
    let mut lowered = model.next;
    ledger.lower_to_unsettled(&mut lowered);
    prop_assert_eq!(lowered.to_vec(), model.frontier());
    let mut cut = model.next;
    prop_assert_eq!(ledger.cut(&mut cut), model.is_cut());
    prop_assert_eq!(cut, lowered);
    for (&seq, entry) in &model.entries {
        let found = ledger.get(seq);
        prop_assert_eq!(found.is_some(), entry.places > 0, "seq {}", seq);
        let Some(found) = found else { continue };
        let slot = entry.at.map(|(slot, _)| slot as u32);
        prop_assert_eq!(found.maker == Maker::Source, slot.is_some());
        if let Some((slot, offset)) = entry.at {
            prop_assert_eq!((found.slot as usize, found.offset), (slot, offset));
        }
        let run = &model.runs[entry.run];
        let at = (seq - run.first_seq) as usize;
        let position = if slot.is_some() { at } else { at * 2 };
        prop_assert_eq!(found.position, position);
        prop_assert_eq!(found.batch.is_some(), !run.is_dropped, "bytes of {}", seq);
    }
    for run in &model.runs {
        let holders = Rc::strong_count(&run.bytes);
        prop_assert_eq!(holders, 1 + usize::from(!run.is_dropped));
    }
    let counts = ledger.take_counts();
    let source = counts.source.iter();
    let source = source.map(|(outcome, n)| ((true, format!("{outcome:?}")), *n));
    let derived = counts.derived.iter();
    let derived = derived.map(|(_, outcome, n)| ((false, format!("{outcome:?}")), *n));
    let counted: BTreeMap<_, _> = source.chain(derived).collect();
    prop_assert_eq!(counted, std::mem::take(&mut model.settled));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Stored, dead-lettered, skipped, in any order and over gaps: what may be committed is the contiguous settled prefix of
    /// each partition at every step.
    #[test]
    fn case_40_the_ledger_agrees_with_a_list_of_places(ops in prop::collection::vec(op(), 1..150)) {
        let (mut ledger, mut model) = (Ledger::new(), Model::default());
        for op in &ops {
            apply(op, &mut ledger, &mut model);
            check(&mut ledger, &mut model)?;
        }
        // Everything settles in the end, and nothing is kept.
        while !model.places.is_empty() {
            apply(&Op::Done { place: 0 }, &mut ledger, &mut model);
        }
        check(&mut ledger, &mut model)?;
        prop_assert_eq!(ledger.kept(), 0);
    }
}
