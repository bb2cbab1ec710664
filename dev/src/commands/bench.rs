//! `weir-dev bench`: what the host costs against a bare client loop.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use weir_dev::bench::{BareLoop, Contestant, Summary, Target, fill};
use weir_dev::client::Kafka;
use weir_dev::judge::{Verdict, verdict};
use weir_dev::scene::sample_lines;
use weir_dev::servers::KafkaServer;

#[derive(Debug, Args)]
pub struct Bench {
    /// How many rows of the real sample the source topic gets.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// How often each contestant runs, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Writes the figures as JSON to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measures exactly once as well, beside at least once.
    #[arg(long)]
    exactly_once: bool,
}

impl Bench {
    pub fn run(&self) -> Result<ExitCode> {
        if cfg!(debug_assertions) {
            bail!(
                "this is a debug build; run `cargo build --release --workspace` and then \
                   `cargo run --release -p weir-dev -- bench`"
            );
        }
        let server = KafkaServer::start()?;
        let target = self.target(&server)?;
        eprintln!("weir-dev: writing {} visits", self.records);
        fill(&target.kafka, &target.source, self.records)?;
        let mut contestants = vec![Contestant::BareLoop, Contestant::WeirAtLeastOnce];
        contestants.extend(self.exactly_once.then_some(Contestant::WeirExactlyOnce));
        let mut runs = Vec::new();
        // In turn, and the yardstick once more at the end: drift of the machine then shows.
        let order = contestants
            .iter()
            .cycle()
            .take(contestants.len() * self.rounds);
        for (number, &who) in order.chain([&Contestant::BareLoop]).enumerate() {
            let measured = who.run(&target, number)?;
            eprintln!("weir-dev: run {number}: {measured:?}");
            runs.push(measured);
        }
        let summary = Summary {
            records: self.records,
            runs,
        };
        print!("{summary}");
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_string_pretty(&summary)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn target(&self, server: &KafkaServer) -> Result<Target> {
        let lines = sample_lines()?;
        ensure!(!lines.is_empty(), "the sample is empty");
        let is_good = |line: &&Vec<u8>| matches!(verdict(Some(line)), Verdict::Good(_));
        let good_per_sample = lines.iter().filter(is_good).count();
        let good_in_rest = lines
            .iter()
            .take(self.records % lines.len())
            .filter(is_good)
            .count();
        Ok(Target {
            kafka: Kafka::at(server.bootstrap()),
            source: "visits".to_owned(),
            records: self.records,
            good_records: self.records / lines.len() * good_per_sample + good_in_rest,
        })
    }
}

#[derive(Debug, Args)]
pub struct BareLoopArguments {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    source: String,
    #[arg(long)]
    target: String,
    #[arg(long)]
    group: String,
}

impl BareLoopArguments {
    /// Runs the yardstick until SIGTERM or SIGINT.
    pub fn run(self) -> Result<ExitCode> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let bare = BareLoop {
            bootstrap: self.bootstrap,
            source: self.source,
            target: self.target,
            group: self.group,
        };
        bare.run(&stop)?;
        Ok(ExitCode::SUCCESS)
    }
}
