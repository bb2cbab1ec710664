//! Records that come late, early or not at all.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use serde_json::json;
use weir_dev::client::wait_until;
use weir_dev::host::Command;
use weir_dev::judge::WindowRules;
use weir_dev::scene::{Scene, WINDOW_SIZE_S, judge_windows};

use super::stage::*;

/// A window takes a record until the watermark has come to its end plus `allowed_lateness`: out of order inside an open
/// window is no matter, a late one corrects the document, and one that is later still is a bad record.
#[test]
fn late_records_correct_a_window_until_allowed_lateness_has_passed() -> Result<()> {
    let scene = Scene::shared("late")?;
    create_timed(&scene, 1)?;
    let folder = folder(&scene, &Rules::of_records("20s"))?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let first_ms = window_start_ms(now_ms()) - 12 * WINDOW_MS;
    let at = |second: i64| first_ms + second * 1_000;
    let write = |seconds: &[i64]| {
        let rows = seconds
            .iter()
            .map(|&second| measured(0, at(second), 100 + second));
        scene
            .kafka
            .write(&scene.reduced(), &rows.collect::<Vec<_>>())
    };
    write(&[1, 4, 2, 12])?;
    wait_watermark(&host, 0, at(12))?;
    // The first window has closed. At 24 it still takes records, at 25 not any more; the second does.
    write(&[3, 24])?;
    wait_watermark(&host, 0, at(24))?;
    write(&[0, 25])?;
    wait_watermark(&host, 0, at(25))?;
    write(&[4, 6, 60])?;
    wait_watermark(&host, 0, at(60))?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(
        codes(&dead) == [("latency-window.late", 1)].into(),
        "{:?}",
        codes(&dead)
    );
    // The eighth behind the first: its window ended at 5, and the watermark stands at 25.
    let late = dead
        .first()
        .and_then(|letter| letter.header_text("__connect.errors.offset"));
    ensure!(late == Some("8"), "the wrong record is late: {late:?}");
    let mut records = scene.kafka.read(&scene.reduced())?;
    for records in records.values_mut() {
        // The window of the last one is open.
        records.retain(|record| record.offset != 8 && record.timestamp.ms() != Some(at(60)));
    }
    let rules = WindowRules::of_size_s(WINDOW_SIZE_S);
    wait_until("the corrections", SETTLED, || {
        let documents = scene.index().documents().map_err(|e| format!("{e:#}"))?;
        let judged = judge_windows(&records, &documents, &rules);
        judged.map(drop).map_err(|error| format!("{error:#}"))
    })?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// A timestamp more than `max_future` ahead of the host's clock is a bad record and moves nothing: records that come
/// behind it are in time. One inside of `max_future` is believed; what it closes early is corrected.
#[test]
fn a_timestamp_in_the_future_closes_no_window_of_a_good_record() -> Result<()> {
    let scene = Scene::shared("future")?;
    create_timed(&scene, 1)?;
    let folder = folder(
        &scene,
        &Rules {
            idle_grace: "5s",
            allowed_lateness: "2m",
        },
    )?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let write = |ahead_s: i64| {
        let row = measured(0, now_ms() + ahead_s * 1_000, 5);
        scene.kafka.write(&scene.reduced(), &[row])
    };
    for ahead_s in [0, 3_000, 0, 600, 0] {
        write(ahead_s)?;
    }
    wait_sum(&host, "weir_records_pending", 0.0)?;
    let ahead_ms = now_ms() + 300_000;
    let watermark_s = gauge(&host, "weir_watermark_timestamp_seconds", 0)?;
    #[allow(clippy::cast_precision_loss)]
    let is_behind = watermark_s < ahead_ms as f64 / 1_000.0;
    ensure!(is_behind, "the watermark is at {watermark_s}");
    // Half a minute ahead is believed, and closes the windows before it.
    let believed_ms = now_ms() + 30_000;
    scene
        .kafka
        .write(&scene.reduced(), &[measured(0, believed_ms, 5)])?;
    wait_watermark(&host, 0, believed_ms)?;
    write(0)?;
    scene.wait_measured(SETTLED)?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(
        codes(&dead) == [("source.timestamp_in_future", 2)].into(),
        "{:?}",
        codes(&dead)
    );
    let mut records = scene.kafka.read(&scene.reduced())?;
    for records in records.values_mut() {
        records.retain(|record| record.timestamp.ms() <= Some(ahead_ms));
    }
    let documents = scene.index().documents()?;
    let rules = WindowRules::of_size_s(WINDOW_SIZE_S);
    judge_windows(&records, &documents, &rules)?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// A broker whose clock is off by less than `idle_grace` makes nothing late, ahead or behind; one that is further behind
/// makes records late, which `allowed_lateness` takes as such: the documents are right all the same. A topic with
/// timestamps of the producer's stands for a broker with that clock.
#[test]
fn clock_skew_within_idle_grace_makes_nothing_late() -> Result<()> {
    // Milliseconds ahead, and the rules that such a clock needs.
    let cases = [
        (-5_000, "10s", "1s"),
        (10_000, "10s", "1s"),
        (-20_000, "5s", "1m"),
    ];
    let threads = cases.map(|(skew_ms, idle_grace, allowed_lateness)| {
        let rules = Rules {
            idle_grace,
            allowed_lateness,
        };
        thread::spawn(move || under_skew(skew_ms, &rules))
    });
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a scene panicked"))??;
    }
    Ok(())
}

fn under_skew(skew_ms: i64, rules: &Rules) -> Result<()> {
    let scene = Scene::shared(&format!("skew{skew_ms}"))?;
    create_timed(&scene, 2)?;
    let folder = folder(&scene, rules)?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let writer = scene.kafka.writer()?;
    for round in 0..20 {
        let broker_ms = now_ms() + skew_ms;
        // Partitions rest by turns, so that their watermarks stand on proofs.
        let partition = round / 5 % 2;
        let rows = [measured(partition, broker_ms, i64::from(round))];
        writer.write(&scene.reduced(), &rows)?;
        // The pace of the traffic.
        thread::sleep(Duration::from_millis(500));
    }
    scene.wait_measured(SETTLED)?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(dead.is_empty(), "skew {skew_ms} ms: {:?}", codes(&dead));
    scene.judge_windows()?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// Partitions that are read to their end move with the host's clock: an empty topic has a watermark, and a partition
/// without traffic holds no window of the others open.
#[test]
fn an_empty_topic_and_an_idle_partition_hold_nothing_up() -> Result<()> {
    let scene = Scene::shared("idle")?;
    scene.create_reduced()?;
    let folder = folder(
        &scene,
        &Rules {
            idle_grace: "1s",
            allowed_lateness: "5s",
        },
    )?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let began_ms = now_ms();
    for partition in [0, 1] {
        wait_watermark(&host, partition, began_ms)?;
    }
    ensure!(scene.index().documents()?.is_empty(), "a window of nothing");
    let rows: Vec<_> = (0..10).map(|n| measured(0, now_ms(), n)).collect();
    scene.kafka.write(&scene.reduced(), &rows)?;
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(report.counted("records in windows") == 10, "{report}");
    ensure!(scene.kafka.ends(&scene.reduced())?.get(&1) == Some(&0));
    ensure!(host.drain()? == 0);
    Ok(())
}

/// A partition that lags is not idle: while one holds a backlog that a full sink keeps unread, no window closes that its
/// records belong to.
#[test]
fn a_partition_that_lags_is_never_called_idle() -> Result<()> {
    let scene = Scene::shared("lags")?;
    create_timed(&scene, 2)?;
    // Partition 1 is written up to now, partition 0 has its oldest records unread when the host starts.
    let first_ms = window_start_ms(now_ms()) - 40 * WINDOW_MS;
    let backlog: Vec<_> = (0..20_000)
        .map(|n| measured(0, first_ms + n * 10, n % 700))
        .collect();
    let newest: Vec<_> = (0..200)
        .map(|n| measured(1, first_ms + n * 1_000, n))
        .collect();
    scene.kafka.write(&scene.reduced(), &backlog)?;
    scene.kafka.write(&scene.reduced(), &newest)?;
    let folder = scene.folder(|topology| {
        let sla = scene.sla_in(topology);
        sla["sources"]["reduced"]["idle_grace"] = json!("1s");
        sla["transforms"]["latency"]["config"]["allowed_lateness"] = json!("1s");
    })?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    scene.wait_measured(SETTLED)?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(dead.is_empty(), "{:?}", codes(&dead));
    let report = scene.judge_windows()?;
    ensure!(report.counted("records in windows") == 20_200, "{report}");
    ensure!(host.drain()? == 0);
    Ok(())
}

/// I9: a partition far ahead of the slowest waits for it, so that the windows open at once are bounded.
#[test]
fn a_partition_far_ahead_waits_for_the_slowest() -> Result<()> {
    const MINUTE_MS: i64 = 60_000;
    let scene = Scene::shared("ahead")?;
    create_timed(&scene, 2)?;
    // Only records move the watermark.
    let folder = folder(&scene, &Rules::of_records("5s"))?;
    let first_ms = now_ms() - 30 * MINUTE_MS;
    let write = |partition: i32, ms: i64| {
        let row = measured(partition, first_ms + ms, 7);
        scene.kafka.write(&scene.reduced(), &[row])
    };
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let reached = |partition: i32, ms: i64| wait_watermark(&host, partition, first_ms + ms);
    for partition in 0..2 {
        write(partition, 0)?;
        reached(partition, 0)?;
    }
    // Who is at most 10 min ahead is read, and may then be further ahead.
    write(1, 12 * MINUTE_MS)?;
    reached(1, 12 * MINUTE_MS)?;
    write(1, 13 * MINUTE_MS)?;
    for second in 1..=3 {
        write(0, second * 1_000)?;
        reached(0, second * 1_000)?;
    }
    let at_s = gauge(&host, "weir_watermark_timestamp_seconds", 1)?;
    #[allow(clippy::cast_precision_loss)]
    let limit_s = (first_ms + 13 * MINUTE_MS) as f64 / 1_000.0;
    ensure!(at_s < limit_s, "it was read although it is 12 min ahead");
    write(0, 12 * MINUTE_MS)?;
    reached(1, 13 * MINUTE_MS)?;
    ensure!(host.drain()? == 0);
    Ok(())
}
