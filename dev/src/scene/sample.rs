//! The real sample: 5,000 lines as the visits topic has them, bad ones included.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::client::Row;

/// The lines of `data/visits.jsonl`.
pub fn sample_lines() -> Result<Vec<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/visits.jsonl");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Ok(text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect())
}

/// The lines as rows. A row has its user as key, so that keys repeat and order can be seen; a line
/// without one has a null key.
pub fn sample_rows() -> Result<Vec<Row>> {
    let rows = sample_lines()?.into_iter().map(|line| Row {
        key: user(&line),
        ..Row::value(line)
    });
    Ok(rows.collect())
}

fn user(line: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(line).ok()?;
    Some(value.get("user_id")?.as_str()?.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Verdict, verdict};

    #[test]
    fn the_sample_is_whole() {
        let lines = sample_lines().expect("the sample");
        assert_eq!(lines.len(), 5_000);
        let bad = lines
            .iter()
            .filter(|line| matches!(verdict(Some(line)), Verdict::Bad(_)));
        let either = lines
            .iter()
            .filter(|line| verdict(Some(line)) == Verdict::Either);
        assert_eq!((bad.count(), either.count()), (148, 0));
    }
}
