//! The reader of checkpoints against bytes that nobody wrote.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

#[derive(Debug, Args)]
pub struct FuzzCheckpoints {
    /// Seed of the bytes; another one each time if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many records to try.
    #[arg(long, default_value_t = 10_000_000)]
    rounds: u64,
}

impl FuzzCheckpoints {
    /// Ends well unless the reader panics.
    pub fn run(&self) -> Result<ExitCode> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        println!("seed {seed}, {} records", self.rounds);
        let began = Instant::now();
        weir::checkpoint::fuzz(seed, self.rounds);
        println!("no panic in {:.1} s", began.elapsed().as_secs_f64());
        Ok(ExitCode::SUCCESS)
    }
}
