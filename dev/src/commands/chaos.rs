//! `weir-dev chaos`: the reference job under a random schedule of faults.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use weir_dev::chaos::{Options, Pace, run};

#[derive(Debug, Args)]
pub struct Chaos {
    /// Decides the schedule; another one each time if not given.
    #[arg(long, env = "WEIR_CHAOS_SEED")]
    seed: Option<u64>,
    /// How long faults go on; starting, settling and judging come on top.
    #[arg(long, default_value_t = 20)]
    minutes: u32,
    /// Visits per second.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
}

impl Chaos {
    /// Fails unless nothing is lost, nothing doubled, and no host ended by itself.
    pub fn run(&self) -> Result<ExitCode> {
        let outcome = run(&Options {
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            length: Duration::from_secs(60) * self.minutes,
            visits_per_second: self.rate,
            pace: Pace::usual(),
            elasticsearch: None,
            transaction_timeout_ms: 10_000,
            settle_timeout: Duration::from_secs(900),
        })?;
        println!("{outcome}");
        Ok(match outcome.is_clean() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
