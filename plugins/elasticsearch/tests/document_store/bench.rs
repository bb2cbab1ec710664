//! A store, a sink that writes to it, and what the sink said of each record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_document_store::{DocumentStore, Settings};
use weir_elasticsearch::ElasticsearchSink;
use weir_plugin_sdk::Flush;
use weir_plugin_sdk::api::sink_metric;
use weir_plugin_sdk::testing::{SinkHarness, TestRecord};

pub const INDEX: &str = "visits";
/// Long enough for a busy machine; reached only by a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(60);
const FLUSH_WAIT_MS: u64 = 200;
const GAUGES: [u32; 6] = [
    sink_metric::PENDING_RECORDS,
    sink_metric::REQUESTS_IN_FLIGHT,
    sink_metric::BLOCKED_RECORDS,
    sink_metric::OLDEST_PENDING_MS,
    sink_metric::TARGET_UP,
    sink_metric::PAUSED,
];
/// Every end of an accepted record.
const OUTCOMES: [&str; 6] = [
    "stored",
    "superseded",
    "already_there",
    "gone",
    "rejected",
    "invalid",
];

pub struct Bench {
    pub store: DocumentStore,
    pub sink: SinkHarness,
    /// `stored`, `superseded` or the code of the rejection, by `seq` (the first record has 1).
    pub ended: BTreeMap<u64, String>,
    /// Messages of rejections, by `seq`.
    pub messages: BTreeMap<u64, String>,
    /// Errors counted, by class.
    pub errors: BTreeMap<String, u64>,
    /// What the sink reported as a host keeps it, by the metric's number and label: sums, and the last value of gauges.
    numbers: BTreeMap<(u32, String), u64>,
}

pub fn config(urls: &[String], changes: Value) -> Value {
    let mut config = json!({ "urls": urls, "index": INDEX, "batch": { "age": "10ms" } });
    if let (Some(config), Value::Object(changes)) = (config.as_object_mut(), changes) {
        config.extend(changes);
    }
    config
}

pub fn sink(config: Value) -> SinkHarness {
    SinkHarness::new::<ElasticsearchSink>(config).unwrap_or_else(|error| panic!("{error:?}"))
}

/// A record with key `id` and version `version`.
pub fn record(id: &str, version: i64) -> TestRecord {
    TestRecord::value(json!({ "id": id, "version": version }).to_string())
        .with_key(id)
        .offset(version)
}

/// `count` records, each of its own document.
pub fn records(count: usize) -> Vec<TestRecord> {
    (0..count)
        .map(|number| record(&format!("id{number}"), number as i64))
        .collect()
}

impl Bench {
    pub fn new(changes: Value) -> Self {
        Bench::with_store(Settings::default(), changes)
    }

    pub fn with_store(settings: Settings, changes: Value) -> Self {
        let store = DocumentStore::start(settings).expect("a store");
        let sink = sink(config(&[store.url()], changes));
        Bench::of(store, sink)
    }

    pub fn of(store: DocumentStore, sink: SinkHarness) -> Self {
        let (ended, messages, errors, numbers) = Default::default();
        Bench {
            store,
            sink,
            ended,
            messages,
            errors,
            numbers,
        }
    }

    /// Gives the sink all records, waiting for room as the host does.
    pub fn write(&mut self, records: &[TestRecord]) {
        let started_at = Instant::now();
        let mut rest = records;
        while !rest.is_empty() {
            let (accepted, first) = self.sink.write(rest).expect("a write");
            assert!(first > 0 && started_at.elapsed() < DEADLINE, "no room");
            rest = &rest[accepted..];
            self.collect();
            if accepted == 0 {
                self.flush_once();
            }
        }
    }

    /// Waits for every verdict.
    pub fn settle(&mut self) {
        let started_at = Instant::now();
        while self.flush_once() == Flush::Pending {
            assert!(
                started_at.elapsed() < DEADLINE,
                "not settled: {:?}",
                self.ended
            );
        }
    }

    pub fn write_and_settle(&mut self, records: &[TestRecord]) {
        self.write(records);
        self.settle();
    }

    fn flush_once(&mut self) -> Flush {
        let answer = self.sink.flush(FLUSH_WAIT_MS).expect("a flush");
        self.collect();
        answer
    }

    /// Polls until `holds`, as the host does every 100 ms.
    pub fn poll_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let started_at = Instant::now();
        while !holds(self) {
            assert!(started_at.elapsed() < DEADLINE, "never: {what}");
            self.flush_once();
        }
    }

    /// Why the sink says it makes no progress.
    pub fn unavailable(&mut self) -> Option<String> {
        self.sink
            .settlements()
            .unavailable
            .as_ref()
            .map(ToString::to_string)
            .into_option()
    }

    fn collect(&mut self) {
        let settlements = self.sink.settlements();
        let settled: Vec<(u64, u32)> = settlements
            .settled
            .drain(..)
            .map(|end| (end.seq, end.verdict))
            .collect();
        for (seq, verdict) in settled {
            let how = if verdict == 1 { "stored" } else { "superseded" };
            assert!(
                self.ended.insert(seq, how.to_owned()).is_none(),
                "{seq} settled twice"
            );
        }
        for rejection in self.sink.settlements().rejections.drain(..) {
            let earlier = self.ended.insert(rejection.seq, rejection.code.to_string());
            assert!(earlier.is_none(), "{} settled twice", rejection.seq);
            self.messages
                .insert(rejection.seq, rejection.message.to_string());
        }
        for error in self.sink.settlements().errors.drain(..) {
            *self.errors.entry(error.class.to_string()).or_default() += error.count;
        }
        for number in self.sink.settlements().numbers.drain(..) {
            let kept = self
                .numbers
                .entry((number.metric, number.label.to_string()));
            let kept = kept.or_default();
            *kept = number.value
                + if GAUGES.contains(&number.metric) {
                    0
                } else {
                    *kept
                };
        }
        self.check_account();
    }

    /// Holds at every report, not only when all is quiet: what was accepted has ended or is pending, and what has ended
    /// was settled.
    fn check_account(&self) {
        let ended: u64 = OUTCOMES
            .map(|outcome| self.number(sink_metric::ITEMS, outcome))
            .iter()
            .sum();
        let pending = self.number(sink_metric::PENDING_RECORDS, "");
        let accepted = self.number(sink_metric::RECORDS_ACCEPTED, "");
        assert_eq!(accepted, ended + pending, "{:?}", self.numbers);
        assert_eq!(ended, self.ended.len() as u64, "{:?}", self.numbers);
    }

    /// Value of a metric as `/metrics` would show it; 0 if it was never reported.
    pub fn number(&self, metric: u32, label: &str) -> u64 {
        let found = self.numbers.get(&(metric, label.to_owned()));
        found.copied().unwrap_or_default()
    }

    /// Sum over a metric's labels; of a histogram, the number of observations.
    pub fn total(&self, metric: u32) -> u64 {
        let of_metric = self
            .numbers
            .iter()
            .filter(|((known, label), _)| *known == metric && label != sink_metric::BUCKET_SUM);
        of_metric.map(|(_, value)| value).sum()
    }

    /// How many records ended as `how`.
    pub fn count(&self, how: &str) -> usize {
        self.ended.values().filter(|ended| *ended == how).count()
    }

    pub fn stored_documents(&self) -> usize {
        self.store.documents(INDEX).len()
    }

    /// `version` of the document's own text.
    pub fn version_of(&self, id: &str) -> Option<i64> {
        self.store.document(INDEX, id)?.json()["version"].as_i64()
    }
}
