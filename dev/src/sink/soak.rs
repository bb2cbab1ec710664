//! Many records through the sink while its server fails at random; then the index must equal a model.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_document_store::{DocumentStore, Settings};
use weir_elasticsearch::ElasticsearchSink;
use weir_plugin_sdk::Flush;
use weir_plugin_sdk::testing::{SinkHarness, TestRecord};

use super::faults::{POISON, REQUEST_POISON, poison, torment};
use super::process::resident_kib;

const INDEX: &str = "soak";
/// Below the sink's own bulks: 413 is met and learned from (case 14).
pub(super) const BODY_MAX_BYTES: usize = 60_000;
/// A black hole costs one; a busy machine must not.
pub(super) const REQUEST_TIMEOUT: &str = "1s";
/// Records offered in one call.
const CHUNK: u64 = 500;
/// Every so many, a record is poisoned: far from a storm.
const POISON_EVERY: u64 = 997;
const PROGRESS_EVERY: u64 = 10_000;
/// The longest wait for the rest after the faults have ended.
const SETTLE_MAX: Duration = Duration::from_secs(600);
/// Records after which memory is compared with its end.
const WARM_UP: u64 = 100_000;

/// How to run it.
#[derive(Debug, Clone, Copy)]
pub struct SoakOptions {
    pub records: u64,
    /// Documents that the records are about.
    pub keys: u64,
    pub seed: u64,
}

/// What came of it. All of it held, or [`soak`] answers an error.
#[derive(Debug)]
pub struct SoakReport {
    pub faults: u64,
    pub requests: u64,
    pub rejected: u64,
    pub documents: usize,
    /// Resident memory of this process, store included: the most until [`WARM_UP`], and when everything had settled.
    pub warm_kib: u64,
    pub end_kib: u64,
    pub elapsed: Duration,
}

/// Errors: a record was lost, doubled or ended wrongly, or the index differs from the model; with the difference.
pub fn soak(options: SoakOptions) -> Result<SoakReport> {
    let store = DocumentStore::start(Settings {
        observed_bulks_max: 0,
        body_max_bytes: BODY_MAX_BYTES,
        ..Settings::default()
    })?;
    poison(&store);
    let config = json!({
        "urls": [store.url()], "index": INDEX, "request_timeout": REQUEST_TIMEOUT, "max_in_flight": 4,
        "batch": { "age": "10ms", "records": 500, "bytes": "256KiB" },
    });
    let sink = SinkHarness::new::<ElasticsearchSink>(config)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut run = Run {
        sink,
        options,
        open: HashMap::new(),
        settled: 0,
        rejected: 0,
    };
    let stopped = AtomicBool::new(false);
    let started_at = Instant::now();
    let (written, faults) = thread::scope(|scope| {
        let tormentor = scope.spawn(|| torment(&store, options.seed, &stopped));
        let written = run.write_all();
        stopped.store(true, Ordering::Relaxed);
        (written, tormentor.join().unwrap_or_default())
    });
    let warm_kib = written?;
    store.faults().clear();
    poison(&store);
    run.settle()?;
    let elapsed = started_at.elapsed();
    // Before the judge, whose model and copy of the index are as large as the store itself.
    let end_kib = resident_kib()?;
    let documents = run.judge(&store)?;
    Ok(SoakReport {
        faults,
        requests: store.observations().received(),
        rejected: run.rejected,
        documents,
        warm_kib,
        end_kib,
        elapsed,
    })
}

struct Run {
    sink: SinkHarness,
    options: SoakOptions,
    /// Accepted and not settled: the record's number by the `seq` that the sink knows it by.
    open: HashMap<u64, u64>,
    settled: u64,
    rejected: u64,
}

impl Run {
    fn id(&self, number: u64) -> String {
        document_id(self.options, number)
    }

    fn record(&self, number: u64) -> TestRecord {
        let offset = i64::try_from(number).unwrap_or(i64::MAX);
        TestRecord::value(document(number))
            .with_key(self.id(number))
            .offset(offset)
    }

    /// Answers the memory after the warm-up, in KiB.
    fn write_all(&mut self) -> Result<u64> {
        let mut warm_kib = resident_kib()?;
        let mut next = 0;
        while next < self.options.records {
            let until = (next + CHUNK).min(self.options.records);
            let chunk: Vec<TestRecord> = (next..until).map(|number| self.record(number)).collect();
            let (accepted, first) = self.sink.write(&chunk).map_err(anyhow::Error::msg)?;
            let accepted = accepted as u64;
            self.open.extend((first..first + accepted).zip(next..));
            next += accepted;
            if next / PROGRESS_EVERY != (next - accepted) / PROGRESS_EVERY {
                eprintln!(
                    "{next} records written, {} without verdict",
                    self.open.len()
                );
            }
            match accepted {
                0 => drop(self.flush()?),
                _ => self.take_verdicts()?,
            }
            if next <= WARM_UP {
                warm_kib = warm_kib.max(resident_kib()?);
            }
        }
        Ok(warm_kib)
    }

    fn flush(&mut self) -> Result<Flush> {
        let answer = self.sink.flush(50).map_err(anyhow::Error::msg)?;
        self.take_verdicts()?;
        Ok(answer)
    }

    fn settle(&mut self) -> Result<()> {
        let started_at = Instant::now();
        while self.flush()? == Flush::Pending {
            ensure!(
                started_at.elapsed() < SETTLE_MAX,
                "{} records have no verdict {SETTLE_MAX:?} after the last fault",
                self.open.len()
            );
        }
        Ok(())
    }

    fn take_verdicts(&mut self) -> Result<()> {
        let settlements = self.sink.settlements();
        settlements.numbers.clear();
        settlements.errors.clear();
        let settled: Vec<u64> = settlements.settled.drain(..).map(|end| end.seq).collect();
        let rejections = settlements.rejections.drain(..);
        let rejected: Vec<(u64, String)> = rejections
            .map(|end| (end.seq, format!("{}: {}", end.code, end.message)))
            .collect();
        for seq in settled {
            let number = self.close(seq)?;
            ensure!(!is_poisoned(number), "poisoned record {number} was stored");
        }
        for (seq, why) in rejected {
            let number = self.close(seq)?;
            ensure!(is_poisoned(number), "record {number} was rejected: {why}");
            self.rejected += 1;
        }
        Ok(())
    }

    fn close(&mut self, seq: u64) -> Result<u64> {
        self.settled += 1;
        let number = self.open.remove(&seq);
        number.with_context(|| format!("delivery {seq} was settled twice, or never accepted"))
    }

    /// Compares everything with the model; answers how many documents there are.
    fn judge(&self, store: &DocumentStore) -> Result<usize> {
        let SoakOptions { records, .. } = self.options;
        ensure!(
            self.settled == records && self.open.is_empty(),
            "{} of {records} records have a verdict",
            self.settled
        );
        let poisoned = (0..records).filter(|number| is_poisoned(*number)).count() as u64;
        ensure!(
            self.rejected == poisoned,
            "{} of {poisoned} poisoned records were rejected",
            self.rejected
        );
        let mut model: BTreeMap<String, u64> = BTreeMap::new();
        for number in (0..records).filter(|number| !is_poisoned(*number)) {
            model.insert(self.id(number), number);
        }
        let documents: BTreeMap<String, (i64, String)> = store
            .documents(INDEX)
            .into_iter()
            .map(|document| {
                let source = document.source.get().to_owned();
                (document.id, (document.version, source))
            })
            .collect();
        ensure!(
            documents.len() == model.len(),
            "{} documents, not {}",
            documents.len(),
            model.len()
        );
        for (id, number) in &model {
            let expected = (i64::try_from(*number)?, format!("{{\"n\":{number}}}"));
            ensure!(
                documents.get(id) == Some(&expected),
                "{id}: {:?}, not {expected:?}",
                documents.get(id)
            );
        }
        Ok(documents.len())
    }
}

/// What record `number` is about. A multiplication spreads neighbours, so that documents meet again in the same bulk and in
/// others.
pub(super) fn document_id(options: SoakOptions, number: u64) -> String {
    format!("id{}", number.wrapping_mul(2_654_435_761) % options.keys)
}

/// The value of record `number`.
pub(super) fn document(number: u64) -> String {
    match (is_poisoned(number), number % 2) {
        (true, 0) => format!("{{{POISON}:true,\"n\":{number}}}"),
        (true, _) => format!("{{{REQUEST_POISON}:true,\"n\":{number}}}"),
        (false, _) => format!("{{\"n\":{number}}}"),
    }
}

fn is_poisoned(number: u64) -> bool {
    number % POISON_EVERY == POISON_EVERY / 2
}
