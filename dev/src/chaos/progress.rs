//! How long nothing was committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Kafka;

/// How often the committed offsets are looked at: the resolution of a stall.
const INTERVAL: Duration = Duration::from_secs(2);

/// The longest time in which `group` committed nothing new of `topic`, until `stop`. A broker that is away does not
/// answer, and that counts too: nothing is committed meanwhile.
pub fn longest_stall(kafka: &Kafka, group: &str, topic: &str, stop: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    let (mut last, mut advanced) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        if let Ok(sum) = committed(kafka, group, topic)
            && sum > last
        {
            last = sum;
            advanced = Instant::now();
        }
        longest = longest.max(advanced.elapsed());
        thread::sleep(INTERVAL);
    }
    longest
}

fn committed(kafka: &Kafka, group: &str, topic: &str) -> Result<i64> {
    Ok(kafka.committed(group, topic)?.values().sum())
}
