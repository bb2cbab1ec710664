//! The source topic of the benchmark.

use anyhow::{Result, ensure};

use crate::client::{Kafka, Row};
use crate::scene::sample_rows;

/// Rows are written in pieces of this many, to bound this program's own memory.
const PIECE: usize = 50_000;

/// Makes `topic` with two partitions and writes `records` rows of the real sample into it, over
/// and over.
pub fn fill(kafka: &Kafka, topic: &str, records: usize) -> Result<()> {
    let sample = sample_rows()?;
    ensure!(!sample.is_empty(), "the sample is empty");
    kafka.create_topic(topic, 2, &[])?;
    let mut rows = sample.iter().cycle().take(records).peekable();
    while rows.peek().is_some() {
        let piece: Vec<Row> = rows.by_ref().take(PIECE).cloned().collect();
        kafka.write(topic, &piece)?;
    }
    Ok(())
}
