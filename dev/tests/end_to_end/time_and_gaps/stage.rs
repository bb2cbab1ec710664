//! What these tests share: measurements with a time of their own, short windows, and looks at a host.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_dev::client::{Record, Row, wait_until};
use weir_dev::host::{Folder, Host};
use weir_dev::scene::{Scene, WINDOW_SIZE_S};

/// All scenes share two cores.
pub const SETTLED: Duration = Duration::from_secs(120);
pub const WINDOW_MS: i64 = WINDOW_SIZE_S * 1_000;

pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The start of the window that `at_ms` lies in.
pub fn window_start_ms(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(WINDOW_MS)
}

/// A reduced record of a visit that took `latency_ms` up to `at_ms`, with that as its timestamp.
pub fn measured(partition: i32, at_ms: i64, latency_ms: i64) -> Row {
    let value = json!({ "start_processing_time_unix_ms": at_ms - latency_ms });
    Row::value(value.to_string()).on(partition).at(at_ms)
}

/// The rules of time of a window pipeline.
pub struct Rules {
    pub idle_grace: &'static str,
    pub allowed_lateness: &'static str,
}

impl Rules {
    /// Only records move the watermark: an hour's silence is no sign of anything.
    pub fn of_records(allowed_lateness: &'static str) -> Rules {
        Rules {
            idle_grace: "1h",
            allowed_lateness,
        }
    }
}

/// The scene's topology with these rules.
pub fn folder(scene: &Scene, rules: &Rules) -> Result<Folder> {
    scene.folder(|topology| {
        let sla = scene.sla_in(topology);
        sla["sources"]["reduced"]["idle_grace"] = json!(rules.idle_grace);
        sla["transforms"]["latency"]["config"]["allowed_lateness"] = json!(rules.allowed_lateness);
    })
}

/// The reduced topic with timestamps that the test sets.
pub fn create_timed(scene: &Scene, partitions: usize) -> Result<()> {
    let config = [("message.timestamp.type", "CreateTime")];
    scene
        .kafka
        .create_topic(&scene.reduced(), partitions, &config)
}

/// Waits until the watermark of a partition has come to `at_ms`.
pub fn wait_watermark(host: &Host, partition: i32, at_ms: i64) -> Result<()> {
    let what = format!("the watermark of partition {partition} to reach {at_ms}");
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let wanted_s = at_ms as f64 / 1_000.0;
    wait_until(&what, SETTLED, || {
        let at_s = gauge(host, "weir_watermark_timestamp_seconds", partition);
        let at_s = at_s.map_err(|error| format!("{error:#}"))?;
        (at_s >= wanted_s)
            .then_some(())
            .ok_or_else(|| at_s.to_string())
    })
}

/// What a host says of one partition.
pub fn gauge(host: &Host, name: &str, partition: i32) -> Result<f64> {
    let partition = partition.to_string();
    Ok(host
        .metrics()?
        .sum(name, &[("partition", partition.as_str())]))
}

/// Waits until a metric, summed over the partitions, has this value.
pub fn wait_sum(host: &Host, name: &str, wanted: f64) -> Result<()> {
    wait_until(&format!("{name} to be {wanted}"), SETTLED, || {
        let metrics = host.metrics().map_err(|error| format!("{error:#}"))?;
        let sum = metrics.sum(name, &[]);
        let is_there = metrics.has(name) && (sum - wanted).abs() < f64::EPSILON;
        is_there.then_some(()).ok_or_else(|| sum.to_string())
    })
}

/// The codes of dead letters, how often each.
pub fn codes(dead_letters: &[Record]) -> BTreeMap<&str, usize> {
    let mut codes = BTreeMap::new();
    for letter in dead_letters {
        let code = letter.header_text("__connect.errors.exception.class.name");
        *codes.entry(code.unwrap_or("none")).or_insert(0) += 1;
    }
    codes
}

/// The number behind `field` of the first line with this `event`.
pub fn number(event: &Value, field: &str) -> Result<i64> {
    let number = event[field].as_i64();
    number.with_context(|| format!("no number {field} in {event}"))
}
