//! Visits that come at a steady pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use weir_dev::client::{Kafka, Row};
use weir_dev::judge::{Verdict, verdict};
use weir_dev::scene::sample_rows;

/// The rows of the sample that `reduce-visit` takes: a bad one is refused at once, whatever the delay.
pub fn good_rows() -> Result<Vec<Row>> {
    let is_good = |row: &Row| !matches!(verdict(row.value.as_deref()), Verdict::Bad(_));
    Ok(sample_rows()?.into_iter().filter(is_good).collect())
}

/// Writes rows of `rows` over and over, `per_second` of them, until it is told to end.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

impl Load {
    pub fn start(kafka: &Kafka, topic: &str, rows: Vec<Row>, per_second: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (kafka, topic, stopped) = (kafka.clone(), topic.to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let began = Instant::now();
            let mut rows = rows.into_iter().cycle();
            let mut written = 0;
            for second in 1.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let slice: Vec<Row> = rows.by_ref().take(per_second).collect();
                kafka.write(&topic, &slice)?;
                written += slice.len();
                // The pace is the load's own; a late slice is not waited for.
                let due = began + Duration::from_secs(second);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(written)
        });
        Load { stop, thread }
    }

    /// Ends it; how many rows were written.
    pub fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.thread.join();
        written.map_err(|_| anyhow!("the load panicked"))?
    }
}
