//! Item 7: plugins that take seconds for a record, while more comes than they can take (I4, slow plugins).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use weir_dev::host::{Command, Host};
use weir_dev::scene::Scene;

use super::is_wanted;
use super::load::{Load, good_rows};

const VISITS_PER_SECOND: usize = 5;
/// What a record may take beside its delay: the contract's p90 is 10,000 to 11,000 ms for a delay of 10 s.
const OVERHEAD_MAX_MS: i64 = 1_000;

/// What was seen of one slow pipeline.
struct Seen {
    delay_s: i64,
    /// Append time minus start time of every reduced record, ascending, milliseconds.
    latencies_ms: Vec<i64>,
    /// Committed offsets, summed over the partitions, each time they were seen to have moved.
    commits: Vec<i64>,
}

/// No rebalance, true latencies, commits record by record: 10 s for ten minutes, 20 s and 90 s for five.
#[test]
fn slow_plugins_stay_in_their_group_and_commit_record_by_record() -> Result<()> {
    if !is_wanted("slow_plugins_stay_in_their_group_and_commit_record_by_record") {
        return Ok(());
    }
    let cases = [(10, 600), (20, 300), (90, 300)];
    let threads = cases.map(|(delay_s, seconds)| {
        thread::spawn(move || watch(delay_s, Duration::from_secs(seconds)))
    });
    for thread in threads {
        let seen = thread.join().map_err(|_| anyhow!("a scene panicked"))??;
        judge(&seen)?;
    }
    Ok(())
}

fn watch(delay_s: i64, time: Duration) -> Result<Seen> {
    let scene = Scene::shared(&format!("long-slow-{delay_s}"))?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["transforms"]["reduced"]["config"] =
            json!({ "processing_delay": format!("{delay_s}s") });
    })?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    let load = Load::start(
        &scene.kafka,
        &scene.visits(),
        good_rows()?,
        VISITS_PER_SECOND,
    );
    let began = Instant::now();
    let mut commits = vec![0];
    while began.elapsed() < time {
        let committed: i64 = committed(&scene)?;
        if Some(&committed) != commits.last() {
            commits.push(committed);
        }
        // Ten looks fall into the shortest time that a record takes.
        thread::sleep(Duration::from_secs(1));
    }
    load.end()?;
    ensure_undisturbed(&host)?;
    // In the middle of a call: nothing of it is committed.
    host.kill()?;
    scene
        .kafka
        .wait_stable(&scene.reduced(), Duration::from_secs(60))?;
    let committed = committed(&scene)?;
    let latencies_ms = latencies_ms(&scene)?;
    ensure!(
        usize::try_from(committed)? == latencies_ms.len(),
        "{committed} committed, {} reduced",
        latencies_ms.len()
    );
    Ok(Seen {
        delay_s,
        latencies_ms,
        commits,
    })
}

fn committed(scene: &Scene) -> Result<i64> {
    let committed = scene
        .kafka
        .committed(&scene.reduce_group(), &scene.visits())?;
    Ok(committed.values().sum())
}

fn ensure_undisturbed(host: &Host) -> Result<()> {
    let disturbed = host
        .log
        .count(&["revoked", "lost", "task_restarts", "rewound"]);
    ensure!(
        host.log.count(&["assigned"]) == 1 && disturbed == 0,
        "the host was disturbed:\n{}",
        host.log.tail(40)
    );
    Ok(())
}

fn latencies_ms(scene: &Scene) -> Result<Vec<i64>> {
    let mut latencies = Vec::new();
    for record in scene.kafka.read_all(&scene.reduced())? {
        let value: Value = serde_json::from_slice(record.value.as_deref().context("a value")?)?;
        let start_ms = value["start_processing_time_unix_ms"].as_i64();
        let appended_ms = record.timestamp.ms().context("a timestamp")?;
        latencies.push(appended_ms - start_ms.context("a start time")?);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

fn judge(seen: &Seen) -> Result<()> {
    let Seen {
        delay_s,
        latencies_ms,
        commits,
    } = seen;
    let p90 = latencies_ms.get(latencies_ms.len() * 9 / 10);
    let (first, p90) = latencies_ms.first().zip(p90).context("nothing came out")?;
    println!(
        "processing_delay {delay_s}s: {} records, latency {first} to {} ms, p90 {p90} ms, {} commits",
        latencies_ms.len(),
        latencies_ms.last().unwrap_or(p90),
        commits.len() - 1
    );
    let delay_ms = delay_s * 1_000;
    ensure!(*first >= delay_ms, "{first} ms is shorter than the delay");
    ensure!(
        (delay_ms..=delay_ms + OVERHEAD_MAX_MS).contains(p90),
        "p90 is {p90} ms with a delay of {delay_ms} ms"
    );
    let is_by_record = |pair: &[i64]| matches!(pair, [before, after] if after - before == 1);
    ensure!(
        commits.windows(2).all(is_by_record),
        "commits jumped: {commits:?}"
    );
    Ok(())
}
