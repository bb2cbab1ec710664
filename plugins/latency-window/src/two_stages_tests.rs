//! Two stages against one host: the same records, the same documents, bit for bit, whatever happens on the way.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_plugin_sdk::testing::{TestOutput, TestRecord, TransformHarness};

use super::*;

/// 2024-09-10T13:37:00+00:00.
const MINUTE: i64 = 1_725_975_420_000;
const PARTITIONS: u32 = 8;

fn harness(config: Value) -> TransformHarness {
    TransformHarness::new::<LatencyWindow>(config).expect("a valid configuration")
}

/// The newest version of each document, as Elasticsearch keeps it: by key, (version, value).
#[derive(Default, Debug, PartialEq)]
struct Index(BTreeMap<String, (u64, String)>);

impl Index {
    fn take(&mut self, output: TestOutput) {
        assert_eq!(output.failures, []);
        for record in output.records {
            let key = String::from_utf8(record.key.clone().expect("a key")).expect("text");
            let version = record.headers[0].1.clone().expect("a version");
            let version = String::from_utf8(version)
                .expect("text")
                .parse()
                .expect("a number");
            let value = record.text();
            let stored = self.0.entry(key).or_default();
            // Read again, sketches may come in another order: as many records, others of them. The whole has most.
            if version > stored.0 {
                *stored = (version, value);
            }
        }
    }
}

/// A stage with its state saved now and then, so that it can be killed and brought back.
struct Stage {
    config: Value,
    harness: TransformHarness,
    saved: BTreeMap<u32, BTreeMap<u64, Vec<u8>>>,
}

impl Stage {
    fn new(config: Value) -> Self {
        Stage {
            harness: harness(config.clone()),
            config,
            saved: BTreeMap::new(),
        }
    }

    /// As a checkpoint: unchanged parts are those of the one before.
    fn save(&mut self) {
        for slot in 0..PARTITIONS {
            let (_, parts) = self.harness.snapshot(slot).expect("a snapshot");
            let before = self.saved.remove(&slot).unwrap_or_default();
            let part = |(id, bytes): (u64, Option<Vec<u8>>)| {
                (id, bytes.unwrap_or_else(|| before[&id].clone()))
            };
            self.saved
                .insert(slot, parts.into_iter().map(part).collect());
        }
    }

    fn restart(&mut self) {
        self.harness = harness(self.config.clone());
        for (slot, parts) in &self.saved {
            let parts: Vec<(u64, Vec<u8>)> = parts.clone().into_iter().collect();
            self.harness.restore(*slot, 1, &parts).expect("restored");
        }
    }
}

struct Life {
    rng: fastrand::Rng,
    one_host: TransformHarness,
    first: Stage,
    second: Stage,
    /// Between the stages, by source partition: what was sent and how much of it stage two has.
    sent: Vec<Vec<TestRecord>>,
    received: Vec<usize>,
    /// Largest time of each source partition.
    times_ms: Vec<i64>,
    expected: Index,
    documents: Index,
    offset: i64,
}

impl Life {
    fn new(seed: u64) -> Self {
        Life {
            rng: fastrand::Rng::with_seed(seed),
            one_host: harness(json!({})),
            first: Stage::new(json!({"emit": "sketch"})),
            second: Stage::new(json!({"merge": true})),
            sent: vec![Vec::new(); PARTITIONS as usize],
            received: vec![0; PARTITIONS as usize],
            times_ms: vec![MINUTE; PARTITIONS as usize],
            expected: Index::default(),
            documents: Index::default(),
            offset: 0,
        }
    }

    fn send(&mut self, output: TestOutput) {
        assert_eq!(output.failures, []);
        for record in output.records {
            let key = String::from_utf8(record.key.clone().expect("a key")).expect("text");
            let partition: usize = key
                .strip_prefix("topic-")
                .expect("topic")
                .parse()
                .expect("a number");
            self.sent[partition].push(record);
        }
    }

    /// Records of one partition: mostly on time, some late, and what their partition's event time makes of it.
    fn measure(&mut self) {
        let slot = self.rng.u32(0..PARTITIONS);
        let time_ms = &mut self.times_ms[slot as usize];
        *time_ms += self.rng.i64(0..40_000);
        let mut records = Vec::new();
        for _ in 0..self.rng.usize(1..30) {
            let back_ms = match self.rng.u8(0..10) {
                0 => self.rng.i64(0..200_000),
                _ => self.rng.i64(0..5_000),
            };
            let at_ms = (*time_ms - back_ms).max(MINUTE);
            let start = at_ms as f64 - self.rng.f64() * 1_000.0;
            let value = json!({ "start_processing_time_unix_ms": start });
            self.offset += 1;
            records.push(
                TestRecord::value(value.to_string())
                    .at(at_ms)
                    .slot(slot)
                    .offset(self.offset),
            );
        }
        let passed_ms = *time_ms - 5_000;
        let output = self.one_host.process(&records);
        self.expected.take(output);
        let output = self.first.harness.process(&records);
        self.send(output);
        let output = self.first.harness.slot_watermark(slot, passed_ms);
        self.send(output);
        self.pass_all();
    }

    fn pass_all(&mut self) {
        let slowest = self.times_ms.iter().min().expect("partitions") - 5_000;
        let output = self.one_host.watermark(slowest);
        self.expected.take(output);
    }

    /// Some of what waits between the stages, of one source partition; partition p of the topic between has p and p + 4.
    fn merge(&mut self, most: usize) {
        let partition = self.rng.usize(0..PARTITIONS as usize);
        let from = self.received[partition];
        let until = (from + self.rng.usize(0..=most)).min(self.sent[partition].len());
        self.received[partition] = until;
        let slot = partition as u32 % 4;
        let records = self.sent[partition][from..until].iter();
        let records: Vec<TestRecord> = records.map(|record| record.clone().slot(slot)).collect();
        let output = self.second.harness.process(&records);
        self.documents.take(output);
    }

    /// Stage two goes back to its last checkpoint and reads again; stage one repeats what it sends.
    fn step(&mut self, checkpoint: &mut Vec<usize>) {
        match self.rng.u8(0..12) {
            0..5 => self.measure(),
            5..9 => self.merge(6),
            9 => {
                self.first.save();
                self.first.restart();
            }
            10 => {
                self.second.save();
                *checkpoint = self.received.clone();
            }
            _ => {
                self.second.restart();
                self.received = checkpoint.clone();
            }
        }
    }

    fn end(&mut self) {
        for slot in 0..PARTITIONS {
            self.times_ms[slot as usize] = MINUTE + 100_000_000;
            let output = self
                .first
                .harness
                .slot_watermark(slot, MINUTE + 100_000_000 - 5_000);
            self.send(output);
        }
        self.pass_all();
        while self
            .received
            .iter()
            .zip(&self.sent)
            .any(|(received, sent)| *received < sent.len())
        {
            self.merge(100);
        }
    }
}

#[test]
fn two_stages_make_the_documents_of_one_host() {
    for seed in 1..=12 {
        println!("seed {seed}");
        let mut life = Life::new(seed);
        let mut checkpoint = life.received.clone();
        for _ in 0..400 {
            life.step(&mut checkpoint);
        }
        life.end();
        assert!(life.expected.0.len() > 5, "seed {seed}: few windows");
        assert_eq!(life.documents, life.expected, "seed {seed}");
    }
}

#[test]
fn a_window_waits_for_partitions_that_said_nothing_yet() {
    let mut first = harness(json!({"emit": "sketch"}));
    let mut second = harness(json!({"merge": true}));
    let value = json!({ "start_processing_time_unix_ms": MINUTE });
    first.process(&[TestRecord::value(value.to_string()).at(MINUTE + 5)]);
    let sketches = first.slot_watermark(0, MINUTE + 60_000).records;
    assert_eq!(sketches.len(), 2, "the window and the watermark behind it");
    assert_eq!(
        second.process(&sketches).records,
        [],
        "seven partitions are silent"
    );
    for slot in 1..PARTITIONS {
        let told = first.slot_watermark(slot, MINUTE + 60_000).records;
        let documents = second.process(&told).records;
        assert_eq!(documents.len(), usize::from(slot == PARTITIONS - 1));
    }
}

#[test]
fn what_is_no_sketch_of_these_windows_is_refused() {
    let mut first = harness(json!({"emit": "sketch", "size": "2m"}));
    let told = first.slot_watermark(0, MINUTE).records;
    let mut second = harness(json!({"merge": true}));
    let mut records = vec![TestRecord::value("{}")];
    records.extend(told);
    let output = second.process(&records);
    let codes: Vec<&str> = output
        .failures
        .iter()
        .map(|failure| failure.code.as_str())
        .collect();
    assert_eq!(
        codes,
        ["latency-window.sketch", "latency-window.sketch_size"]
    );
}
