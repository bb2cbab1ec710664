//! Random lives of a checkpoint topic against the simplest model: the newest checkpoint that was committed.

use std::collections::BTreeMap;

use super::*;
use crate::topology::Delivery;

fn slot(partition: i32) -> SlotName {
    SlotName {
        source: "reduced".into(),
        topic: "reduced_visits".into(),
        partition,
    }
}

fn snapshot(offset: i64, parts: BTreeMap<u64, Option<Vec<u8>>>) -> SlotSnapshot {
    SlotSnapshot {
        offset,
        watermark_ms: Some(offset * 10),
        pipeline_watermark_ms: Some(offset * 9),
        nodes: vec![NodeSnapshot {
            node: "latency".into(),
            plugin: "window-plugin".into(),
            fingerprint: 7,
            version: 1,
            parts,
        }],
    }
}

/// The log of a compacted topic.
#[derive(Default)]
struct Log {
    records: Vec<(i64, CheckpointRecord)>,
    end: i64,
}

impl Log {
    fn append(&mut self, records: Vec<CheckpointRecord>) {
        for record in records {
            self.records.push((self.end, record));
            self.end += 1;
        }
        // A transaction's marker takes an offset.
        self.end += 1;
    }

    /// As the brokers do: of the records below `until` only the last of each key stays.
    fn compact(&mut self, until: usize) {
        let last: BTreeMap<Vec<u8>, i64> = self
            .records
            .iter()
            .map(|(offset, record)| (record.key.clone(), *offset))
            .collect();
        let mut at = 0;
        self.records.retain(|(offset, record)| {
            at += 1;
            at > until || last.get(&record.key) == Some(offset)
        });
    }

    fn image(&self) -> Result<CheckpointImage, ImageError> {
        let mut image = CheckpointImage::default();
        for (offset, record) in &self.records {
            image.apply(*offset, Some(&record.key), record.value.as_deref());
        }
        image.check().map(|()| image)
    }
}

fn random_parts(
    rng: &mut fastrand::Rng,
    last: Option<&SlotCheckpoint>,
) -> BTreeMap<u64, Option<Vec<u8>>> {
    let known = |id: &u64| last.is_some_and(|last| last.nodes[0].parts.contains_key(id));
    let ids = (0..rng.u64(0..6)).map(|_| rng.u64(0..8));
    let ids: Vec<u64> = ids.collect();
    let part = |id: u64| {
        let is_kept = known(&id) && rng.bool();
        let len = match rng.u8(0..20) {
            0 => 0,
            1 => PART_CHUNK_BYTES_MAX + rng.usize(..100),
            _ => rng.usize(1..50),
        };
        let bytes = (0..len).map(|_| rng.u8(..)).collect();
        (id, (!is_kept).then_some(bytes))
    };
    ids.into_iter().map(part).collect()
}

#[test]
fn what_is_read_back_is_the_newest_checkpoint_that_was_committed() {
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut log = Log::default();
        let mut writer = CheckpointWriter::default();
        let mut model: BTreeMap<SlotName, SlotCheckpoint> = BTreeMap::new();
        for step in 0..30 {
            let name = slot(rng.i32(0..2));
            let parts = random_parts(&mut rng, writer.last(&name));
            let records = writer.stage(&name, snapshot(step, parts)).expect("staged");
            if rng.u8(0..4) == 0 {
                // Aborted: readers never see it.
                writer.rolled_back();
                log.end += records.len() as i64 + 1;
                continue;
            }
            log.append(records);
            writer.committed();
            model.insert(name.clone(), writer.last(&name).expect("last").clone());
            let until = rng.usize(..=log.records.len());
            if rng.bool() {
                log.compact(until);
            }
            let image = log.image().expect("whole");
            for (name, expected) in &model {
                assert_eq!(image.slot(name), Restorable::Whole(expected), "seed {seed}");
            }
            assert_eq!(image.slots().count(), model.len());
        }
    }
}

#[test]
fn a_damaged_record_is_named_and_never_taken_for_another() {
    let mut writer = CheckpointWriter::default();
    let parts = BTreeMap::from([(1, Some(vec![1; 40])), (2, Some(vec![2; 9]))]);
    let records = writer.stage(&slot(0), snapshot(5, parts)).expect("staged");
    writer.committed();
    let expected = writer.last(&slot(0)).expect("last").clone();
    println!("seed 3");
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..20_000 {
        let mut records = records.clone();
        let at = rng.usize(..records.len());
        let value = records[at].value.as_mut().expect("a value");
        match rng.bool() {
            true => value.truncate(rng.usize(..value.len())),
            false => {
                let byte = rng.usize(..value.len());
                value[byte] ^= 1 << rng.u8(0..8);
            }
        }
        let mut log = Log::default();
        log.append(records);
        let error = log.image().err().map(|error| error.offset);
        assert_eq!(error, Some(at as i64), "round {round}");
    }
    let mut log = Log::default();
    log.append(records.clone());
    let image = log.image().expect("whole");
    assert_eq!(image.slot(&slot(0)), Restorable::Whole(&expected));
    // A tombstone takes a damaged record's place.
    log.append(vec![CheckpointRecord {
        key: b"nonsense".to_vec(),
        value: Some(b"nonsense".to_vec()),
    }]);
    assert!(log.image().is_err());
    log.append(vec![CheckpointRecord {
        key: b"nonsense".to_vec(),
        value: None,
    }]);
    assert!(log.image().is_ok());
}

/// A short form of `weir-dev fuzz-checkpoints`, which runs it ten million times.
#[test]
fn no_bytes_make_the_reader_panic() {
    println!("seed 11");
    super::fuzz(11, 200_000);
}

#[test]
fn a_head_without_its_parts_is_passed_over_or_named() {
    let mut writer = CheckpointWriter::default();
    let mut log = Log::default();
    let staged = |writer: &mut CheckpointWriter, offset, byte| {
        let parts = BTreeMap::from([(1, Some(vec![byte; 4]))]);
        let records = writer.stage(&slot(0), snapshot(offset, parts));
        writer.committed();
        records.expect("staged")
    };
    log.append(staged(&mut writer, 1, 1));
    let first = writer.last(&slot(0)).cloned().expect("last");
    let mut second = staged(&mut writer, 2, 2);
    second.remove(0);
    log.append(second);
    let image = log.image().expect("readable");
    assert_eq!(image.slot(&slot(0)), Restorable::Whole(&first));
    log.records.drain(..2);
    let image = log.image().expect("readable");
    assert_eq!(image.slot(&slot(0)), Restorable::Incomplete(2));
}

#[test]
fn a_part_that_was_never_given_cannot_be_unchanged() {
    let mut writer = CheckpointWriter::default();
    let parts = BTreeMap::from([(9, None)]);
    let staged = writer.stage(&slot(0), snapshot(1, parts));
    assert!(matches!(staged, Err(WriteError::UnknownPart { id: 9, .. })));
}

#[test]
fn a_checkpoint_and_an_offset_that_do_not_belong_together_are_told_apart() {
    let checkpoint = |generation, offset| SlotCheckpoint {
        generation,
        offset,
        watermark_ms: None,
        pipeline_watermark_ms: None,
        nodes: Vec::new(),
    };
    let name = slot(0);
    let code = |committed: Option<(i64, &str)>, found: Option<(u64, i64)>, delivery| {
        let whole = found.map(|(generation, offset)| checkpoint(generation, offset));
        let found = whole
            .as_ref()
            .map_or(Restorable::Nothing, Restorable::Whole);
        let committed = committed.map(|(offset, metadata)| CommittedOffset { offset, metadata });
        match decide(&name, committed, &found, delivery) {
            Ok(Restore::Fresh) => "fresh".to_owned(),
            Ok(Restore::From(_)) => "from".to_owned(),
            Err(error) => error.to_string().split(':').next().unwrap_or("").to_owned(),
        }
    };
    use Delivery::{AtLeastOnce, ExactlyOnce};
    let third = commit_metadata(3);
    let third = third.as_str();
    for delivery in [ExactlyOnce, AtLeastOnce] {
        assert_eq!(code(None, None, delivery), "fresh");
        assert_eq!(code(Some((5, "")), None, delivery), "fresh");
        assert_eq!(code(Some((5, third)), None, delivery), "checkpoint.missing");
        assert_eq!(code(Some((5, third)), Some((3, 5)), delivery), "from");
        assert_eq!(
            code(Some((5, third)), Some((2, 4)), delivery),
            "checkpoint.missing"
        );
        assert_eq!(
            code(Some((4, "")), Some((3, 5)), delivery),
            "checkpoint.offset_mismatch"
        );
        assert_eq!(code(None, Some((3, 5)), delivery), "checkpoint.no_offset");
    }
    assert_eq!(
        code(Some((5, third)), Some((4, 9)), ExactlyOnce),
        "checkpoint.offset_mismatch"
    );
    assert_eq!(code(Some((5, third)), Some((4, 9)), AtLeastOnce), "from");
    assert_eq!(code(None, Some((1, 5)), AtLeastOnce), "from");
    assert_eq!(
        code(None, Some((1, 5)), ExactlyOnce),
        "checkpoint.no_offset"
    );
}

/// I9: what a restart would have to read is refused before it is written.
#[test]
fn a_state_beyond_its_bounds_is_no_checkpoint() {
    let staged = |parts: usize, bytes: usize| {
        let shared: Arc<[u8]> = vec![0; bytes].into();
        let ids = 0..parts as u64;
        let node = NodeCheckpoint {
            node: "latency".into(),
            plugin: "window-plugin".into(),
            fingerprint: 7,
            version: 1,
            parts: ids.clone().map(|id| (id, Arc::clone(&shared))).collect(),
        };
        let last = SlotCheckpoint {
            generation: 1,
            offset: 0,
            watermark_ms: None,
            pipeline_watermark_ms: None,
            nodes: vec![node],
        };
        let mut writer = CheckpointWriter::default();
        writer.begin(slot(0), Some(last));
        // None has changed: a bound is of the state, not of what is written of it.
        let unchanged = snapshot(1, ids.map(|id| (id, None)).collect());
        writer
            .stage(&slot(0), unchanged)
            .map(|records| records.len())
    };
    assert_eq!(staged(PARTS_PER_SLOT_MAX, 1), Ok(1), "the head alone");
    let refused = |parts: usize, bytes: usize| {
        matches!(
            staged(parts, bytes),
            Err(WriteError::TooLarge { parts: found, bytes: all, .. })
                if found == parts && all == parts * bytes
        )
    };
    assert!(refused(PARTS_PER_SLOT_MAX + 1, 1));
    let mib = 1024 * 1024;
    assert!(refused(STATE_BYTES_PER_SLOT_MAX / mib + 1, mib));
}
