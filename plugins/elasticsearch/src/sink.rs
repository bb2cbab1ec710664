//! The sink as the host sees it: takes records while its buffer has room, reports their verdicts, never blocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_plugin_sdk::{
    Batch, Context, Error, Errors, Findings, Flush, Record, Replay, Settle, Sink, SinkMetric,
};

use crate::client::Client;
use crate::config::ElasticsearchConfig;
use crate::exchange::{Exchange, WorkerState};
use crate::operation::{Arrival, OperationShaper, SourceRecord};
use crate::preflight;
use crate::scheduler::{Limits, Scheduler, Settlement, Verdict};
use crate::worker::Worker;
use crate::write_plan::{self, WritePlan};

/// Bulks that are gathered while `max_in_flight` are on their way: the buffer holds that many plus this one.
const BULKS_GATHERED: usize = 1;

#[derive(Debug)]
pub struct ElasticsearchSink {
    shaper: OperationShaper,
    exchange: Arc<Exchange>,
    worker: Worker,
    /// Records accepted and not yet settled.
    held_records: usize,
    held_bytes: usize,
    buffer_records: usize,
    buffer_bytes: usize,
}

impl ElasticsearchSink {
    fn is_full(&self) -> bool {
        self.held_records >= self.buffer_records || self.held_bytes >= self.buffer_bytes
    }

    /// Errors: the worker ended without being told to, so that nothing will be settled any more.
    fn report(&mut self, out: &mut Settle<'_>) -> Result<(), Error> {
        let (report, worker) = self.exchange.take_report();
        for settlement in report.settlements {
            self.settle(settlement, out);
        }
        for (class, count) in report.errors {
            out.count_error(class, count);
        }
        report.numbers.report(out);
        match report.unavailable {
            Some(reason) => out.unavailable(&reason),
            None => out.available(),
        }
        match worker {
            WorkerState::Running => Ok(()),
            WorkerState::Stopped => Err(Error::fatal(
                "elasticsearch.stopped",
                "the sink was stopped before this call",
            )),
            WorkerState::Failed(reason) => Err(Error::fatal("elasticsearch.worker_failed", reason)),
        }
    }

    fn settle(&mut self, settlement: Settlement, out: &mut Settle<'_>) {
        self.held_records = self.held_records.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(settlement.held_bytes);
        let seq = settlement.seq;
        match settlement.verdict {
            Verdict::Stored => out.settle(seq, weir_plugin_sdk::Verdict::Stored),
            Verdict::Superseded => out.settle(seq, weir_plugin_sdk::Verdict::Superseded),
            Verdict::Rejected(rejection) => {
                let (refusal, causes) = *rejection;
                out.reject(seq, refusal.code, &refusal.message, &causes)
            }
        }
    }
}

impl Sink for ElasticsearchSink {
    type Config = ElasticsearchConfig;

    /// An id that is a function of the record lets a replay find its own document.
    fn replay(config: &ElasticsearchConfig) -> Replay {
        match write_plan::is_idempotent(config) {
            true => Replay::Idempotent,
            false => Replay::Duplicates,
        }
    }

    fn validate(config: &ElasticsearchConfig, errors: &mut Errors) {
        config.check(errors);
    }

    fn check_target(config: &ElasticsearchConfig, findings: &mut Findings) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(preflight::check(config, findings)),
            Err(error) => findings.error(
                format!("The check cannot run: {error}."),
                "Give the process more threads or file descriptors.",
            ),
        }
    }

    fn new(config: ElasticsearchConfig, context: &Context) -> Result<Self, Error> {
        let client =
            Client::new(&config).map_err(|reason| Error::fatal("elasticsearch.client", reason))?;
        let batch_bytes = usize::try_from(config.batch.bytes.0).unwrap_or(usize::MAX);
        let limits = Limits {
            batch_records: config.batch.records as usize,
            batch_bytes,
            batch_age: config.batch.age.0,
            max_in_flight: config.max_in_flight as usize,
            max_rejections: config.max_rejections as usize,
            on_conflict: config.on_conflict,
        };
        let plan = WritePlan::of(&config);
        let bulks = limits.max_in_flight + BULKS_GATHERED;
        let exchange = Arc::new(Exchange::default());
        let scheduler = Scheduler::new(limits, fastrand::Rng::new());
        let worker = Worker::start(
            Arc::clone(&exchange),
            client,
            scheduler,
            config.clone(),
            context.clone(),
        );
        let worker =
            worker.map_err(|error| Error::fatal("elasticsearch.thread", error.to_string()))?;
        Ok(ElasticsearchSink {
            shaper: OperationShaper::new(config.index.clone(), plan, batch_bytes),
            exchange,
            worker,
            held_records: 0,
            held_bytes: 0,
            buffer_records: limits.batch_records.saturating_mul(bulks),
            buffer_bytes: batch_bytes.saturating_mul(bulks),
        })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Settle<'_>) -> Result<usize, Error> {
        self.report(out)?;
        let arrival = Arrival {
            at: Instant::now(),
            wall_ms: batch.now_ms(),
        };
        let room = self.buffer_records.saturating_sub(self.held_records);
        let mut operations = Vec::with_capacity(batch.records().len().min(room));
        let mut accepted = 0;
        for record in batch.records() {
            if self.is_full() || (accepted > 0 && batch.yield_requested()) {
                break;
            }
            accepted += 1;
            match self.shaper.shape(&BatchRecord { record, batch }, arrival) {
                Ok(operation) => {
                    self.held_records += 1;
                    self.held_bytes += operation.lines().len();
                    operations.push(operation);
                }
                Err(refusal) => out.reject(record.seq(), refusal.code, &refusal.message, ""),
            }
        }
        let invalid = (accepted - operations.len()) as u64;
        if invalid > 0 {
            out.number(SinkMetric::RecordsAccepted, "", invalid);
            out.number(SinkMetric::Items, "invalid", invalid);
        }
        self.exchange.hand_over(operations);
        Ok(accepted)
    }

    fn poll(&mut self, out: &mut Settle<'_>) -> Result<(), Error> {
        self.report(out)
    }

    fn flush(&mut self, wait_ms: u64, out: &mut Settle<'_>) -> Result<Flush, Error> {
        let now = Instant::now();
        let deadline = now
            .checked_add(Duration::from_millis(wait_ms))
            .unwrap_or(now);
        self.exchange.flush();
        loop {
            self.report(out)?;
            if self.held_records == 0 {
                return Ok(Flush::Done);
            }
            if Instant::now() >= deadline {
                return Ok(Flush::Pending);
            }
            self.exchange.wait_for_news(deadline);
        }
    }

    fn stop(&mut self) {
        self.worker.stop();
    }
}

struct BatchRecord<'r, 'b> {
    record: Record<'b>,
    batch: &'r Batch<'b>,
}

impl SourceRecord for BatchRecord<'_, '_> {
    fn seq(&self) -> u64 {
        self.record.seq()
    }

    fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.record.value()
    }

    fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.record.header(name)
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.record.timestamp_ms()
    }

    fn coordinates(&self) -> Option<(&str, i32, i64)> {
        let (slot, offset) = (self.record.slot(), self.record.offset());
        let partition = self.batch.partition(slot);
        (offset >= 0 && partition >= 0).then(|| (self.batch.topic(slot), partition, offset))
    }
}
