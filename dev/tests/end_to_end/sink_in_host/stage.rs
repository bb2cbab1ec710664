//! What these tests share: rows, and looks at a host.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use weir_dev::client::{Record, Row, wait_until};
use weir_dev::host::Host;
use weir_dev::scene::StoreScene;
use weir_dev::sink::POISON;

/// All scenes share two cores.
pub const SETTLED: Duration = Duration::from_secs(120);
/// Of two partitions each.
pub const PARTITIONS: usize = 2;

pub const EXACTLY_ONCE: &str = "exactly_once";
pub const AT_LEAST_ONCE: &str = "at_least_once";

/// Row `n`, about one of `keys` documents.
pub fn row(n: usize, keys: usize) -> Row {
    Row::keyed(format!("id{}", n % keys), json!({ "n": n }).to_string())
}

pub fn rows(count: usize, keys: usize) -> Vec<Row> {
    (0..count).map(|n| row(n, keys)).collect()
}

/// A row that the sink refuses by itself.
pub fn no_object(key: &str) -> Row {
    Row::keyed(key, "[1]")
}

/// A row that the poisoned store refuses.
pub fn poisoned(key: &str) -> Row {
    Row::keyed(key, format!("{{{POISON}:true}}"))
}

pub fn is_bad(record: &Record) -> bool {
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
    value.contains(POISON) || !value.starts_with('{')
}

/// Nothing is committed on the way: what is settled is committed at the end only, if there is one.
pub fn never_commits(topology: &mut Value, pipeline: &str, delivery: &str) {
    topology["pipelines"][pipeline]["delivery"] = json!(delivery);
    topology["pipelines"][pipeline]["checkpoint_interval"] = json!("1h");
    // A transaction is committed after a sixth of it, whatever the interval.
    topology["kafka"]["producer"]["transaction.timeout.ms"] = json!(600_000);
}

/// Waits until the server's answers to so many operations have reached the host, by their kind.
pub fn wait_answered(host: &Host, outcome: &str, count: u64) -> Result<()> {
    wait_until(
        &format!("{count} {outcome}"),
        SETTLED,
        || match StoreScene::answered(host, outcome) {
            Ok(found) if found >= count => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}
