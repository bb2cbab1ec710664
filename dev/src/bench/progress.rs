//! The destination over time, and what the process had used by then.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::Kafka;

use super::cost::cpu_seconds;

/// Fine against a run of seconds, coarse against what looking costs.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// Start-up and the last flush are left out: the slope lies between these parts of the output.
const SLOPE: (f64, f64) = (0.20, 0.95);

#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    records: f64,
    cpu_seconds: f64,
}

/// Samples of one run, from its start.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    samples: Vec<Sample>,
}

/// Between 20 % and 95 % of the output.
#[derive(Debug, Clone, Copy)]
pub struct Slope {
    pub records_per_second: f64,
    pub cpu_seconds_per_million: f64,
}

impl Progress {
    pub fn begin() -> Progress {
        Progress {
            begin: Instant::now(),
            samples: Vec::new(),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Looks until `topic` has at least `records` records, or fails after `timeout`.
    pub fn watch(
        &mut self,
        kafka: &Kafka,
        topic: &str,
        pid: u32,
        records: f64,
        timeout: Duration,
    ) -> Result<()> {
        let watermarks = kafka.watermarks(topic)?;
        loop {
            // CPU first: a record counted late makes the host look dearer, never cheaper.
            let cpu_seconds = cpu_seconds(pid)?;
            let seconds = self.seconds();
            #[allow(clippy::cast_precision_loss)]
            let there = watermarks.sum()? as f64;
            self.samples.push(Sample {
                seconds,
                records: there,
                cpu_seconds,
            });
            if there >= records {
                return Ok(());
            }
            if self.begin.elapsed() > timeout {
                bail!(
                    "{topic} has {there} of {records} records after {} s",
                    timeout.as_secs()
                );
            }
            std::thread::sleep(SAMPLE_INTERVAL);
        }
    }

    /// When the first record was seen at the destination, in seconds after the start.
    pub fn first_record_s(&self) -> Option<f64> {
        let first = self.samples.iter().find(|s| s.records > 0.0);
        first.map(|s| s.seconds)
    }

    /// The slope over the middle of the run; `None` if it was too short to have one.
    pub fn slope(&self, records: f64) -> Option<Slope> {
        let at = |part: f64| self.samples.iter().find(|s| s.records >= records * part);
        let (low, high) = (at(SLOPE.0)?, at(SLOPE.1)?);
        let made = high.records - low.records;
        let seconds = high.seconds - low.seconds;
        (made > 0.0 && seconds > 0.0).then(|| Slope {
            records_per_second: made / seconds,
            cpu_seconds_per_million: (high.cpu_seconds - low.cpu_seconds) / made * 1e6,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_start_and_end_out() {
        let mut progress = Progress::begin();
        // A slow start, then 100 records and 0.01 CPU seconds a second.
        for (seconds, records, cpu_seconds) in [
            (5.0, 0.0, 9.0),
            (6.0, 200.0, 10.0),
            (7.0, 300.0, 10.01),
            (13.5, 950.0, 10.075),
            (20.0, 1_000.0, 20.0),
        ] {
            progress.samples.push(Sample {
                seconds,
                records,
                cpu_seconds,
            });
        }
        let slope = progress.slope(1_000.0).expect("a slope");
        assert!((slope.records_per_second - 100.0).abs() < 1e-6);
        assert!((slope.cpu_seconds_per_million - 100.0).abs() < 1e-6);
        assert_eq!(progress.first_record_s(), Some(6.0));
        assert!(Progress::begin().slope(1_000.0).is_none());
    }
}
