//! The short chaos of every test run: one seed, under a minute of faults, a Kafka of its own. The long one is `make chaos`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_dev::chaos::{Lane, Options, Pace, run};
use weir_dev::scene::shared_elasticsearch;

/// Faults of every lane that this test may touch, in the time below.
const SEED: u64 = 1;
const FAULTS_MIN: usize = 10;

fn seed() -> Result<u64> {
    match std::env::var("WEIR_CHAOS_SEED") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("WEIR_CHAOS_SEED={text} is no number")),
        Err(_) => Ok(SEED),
    }
}

#[test]
fn nothing_is_lost_or_doubled_while_everything_fails() -> Result<()> {
    let outcome = run(&Options {
        seed: seed()?,
        length: Duration::from_secs(30),
        visits_per_second: 500,
        pace: Pace {
            // Elasticsearch is everybody's, and is not restarted. Nor is Kafka: see dev/README.md, "A defect of Kafka's".
            lanes: vec![
                Lane::Reduce,
                Lane::Windows,
                Lane::KafkaPath,
                Lane::ElasticsearchPath,
            ],
            // The shortest that a broker allows by itself.
            session_timeout_ms: 6_000,
            host_gap_ms: 1_000..=5_000,
            path_gap_ms: 3_000..=10_000,
            server_gap_ms: 10_000..=16_000,
        },
        elasticsearch: Some(shared_elasticsearch()?),
        transaction_timeout_ms: 5_000,
        settle_timeout: Duration::from_secs(180),
    })?;
    println!("{outcome}");
    ensure!(outcome.is_clean(), "{outcome}");
    ensure!(outcome.fault_count() >= FAULTS_MIN, "{outcome}");
    ensure!(outcome.balanced_hosts >= 2, "{outcome}");
    // The judge has compared something.
    for (report, kind) in [
        (&outcome.reduced, "good rows"),
        (&outcome.reduced, "dead letters"),
        (&outcome.windows, "records in windows"),
    ] {
        let report = report.as_ref().context("not judged")?;
        ensure!(report.counted(kind) > 0, "no {kind}: {outcome}");
    }
    Ok(())
}
