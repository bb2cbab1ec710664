//! One measured run: the bare loop or the host, over the same source topic.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::client::Kafka;
use crate::host::{Command, Folder, Log};
use crate::servers::Guarded;

use super::cost::{cpu_seconds, peak_rss_mib};
use super::progress::Progress;

/// Ten times what the slowest run of a million records has taken.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contestant {
    BareLoop,
    /// The host with this delivery in its topology.
    WeirExactlyOnce,
    WeirAtLeastOnce,
}

/// What every run of a sitting has in common.
#[derive(Debug, Clone)]
pub struct Target {
    pub kafka: Kafka,
    pub source: String,
    /// Records in the source topic.
    pub records: usize,
    /// Of these, how many have to arrive at the destination.
    pub good_records: usize,
}

/// What one run has shown. Per million means per million source records.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub who: Contestant,
    pub cpu_seconds_per_million: f64,
    pub source_records_per_second: f64,
    /// Everything from the start of the process to its end.
    pub total_cpu_seconds: f64,
    pub peak_rss_mib: f64,
    pub ready_s: f64,
    pub first_record_s: f64,
    /// Committed records at the destination, read and counted after the run.
    pub arrived_records: u64,
}

impl Contestant {
    /// Runs over the whole source topic into a fresh one.
    pub fn run(self, target: &Target, number: usize) -> Result<Measured> {
        let name = format!("bench-{number}");
        target.kafka.create_topic(&name, 2, &[])?;
        match self {
            Contestant::BareLoop => self.run_bare(target, &name),
            Contestant::WeirExactlyOnce => self.run_weir(target, &name, "exactly_once"),
            Contestant::WeirAtLeastOnce => self.run_weir(target, &name, "at_least_once"),
        }
    }

    fn run_bare(self, target: &Target, name: &str) -> Result<Measured> {
        let progress = Progress::begin();
        let mut process = Guarded::spawn(env::current_exe()?, |command| {
            command
                .args(["bare-loop", "--bootstrap", target.kafka.bootstrap()])
                .args([
                    "--source",
                    &target.source,
                    "--target",
                    name,
                    "--group",
                    name,
                ])
                .stdout(Stdio::piped());
        })?;
        let stdout = process.child_mut().stdout.take().context("stdout")?;
        let log = Log::default();
        let _reader = log.collect(stdout);
        log.wait_for(READY_TIMEOUT, |line| (line == "ready").then_some(()))
            .context("the bare loop does not get ready")?;
        let ready_s = progress.seconds();
        let measured = self.watch(target, name, process.id(), progress, ready_s)?;
        process.stop(Duration::from_secs(60))?;
        Ok(measured)
    }

    fn run_weir(self, target: &Target, name: &str, delivery: &str) -> Result<Measured> {
        let topology = topology(target, name, delivery);
        let folder = Folder::with_topology(&serde_json::to_string_pretty(&topology)?)?;
        let progress = Progress::begin();
        let mut host = Command::run(&folder, name).start_ready()?;
        let ready_s = progress.seconds();
        let measured = self.watch(target, name, host.id(), progress, ready_s)?;
        ensure!(
            host.drain()? == 0,
            "the host did not drain:\n{}",
            host.log.tail(40)
        );
        Ok(measured)
    }

    /// Watches the destination until all is there and committed; reads the costs before the end.
    fn watch(
        self,
        target: &Target,
        name: &str,
        pid: u32,
        mut progress: Progress,
        ready_s: f64,
    ) -> Result<Measured> {
        let kafka = &target.kafka;
        #[allow(clippy::cast_precision_loss)]
        let (good, all) = (target.good_records as f64, target.records as f64);
        progress.watch(kafka, name, pid, good, RUN_TIMEOUT)?;
        kafka.wait_settled(name, &target.source, RUN_TIMEOUT)?;
        let (total_cpu_seconds, peak_rss_mib) = (cpu_seconds(pid)?, peak_rss_mib(pid)?);
        let arrived_records = kafka.count(name)?;
        let is_whole = arrived_records == u64::try_from(target.good_records)?;
        ensure!(is_whole, "{arrived_records} records arrived, not {good}");
        let slope = progress
            .slope(good)
            .context("the run was too short to measure; take more records")?;
        // Fewer records arrive than are read: the bad ones.
        let read_per_arrived = all / good;
        Ok(Measured {
            who: self,
            cpu_seconds_per_million: slope.cpu_seconds_per_million / read_per_arrived,
            source_records_per_second: slope.records_per_second * read_per_arrived,
            total_cpu_seconds,
            peak_rss_mib,
            ready_s,
            first_record_s: progress.first_record_s().context("no record arrived")?,
            arrived_records,
        })
    }
}

fn topology(target: &Target, name: &str, delivery: &str) -> serde_json::Value {
    json!({
        "version": 1,
        "plugins": ["./plugins.d"],
        "kafka": { "bootstrap.servers": target.kafka.bootstrap() },
        "pipelines": {
            name: {
                "delivery": delivery,
                "sources": {
                    "visits": { "type": "kafka", "topics": [target.source], "group": name },
                },
                "transforms": {
                    "reduced": { "type": "reduce-visit", "from": "visits", "config": {} },
                },
                "sinks": { "out": { "type": "kafka", "from": "reduced", "topic": name } },
                "on_error": { "policy": "dead_letter" },
            },
        },
    })
}
