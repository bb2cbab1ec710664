//! Asks, beside the data path, where partitions end: for lag, and as the proof that a partition was read to its end
//! at a certain time (DESIGN of watermarks: without a proof no idle partition advances).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{ClientError, client_config};
use super::consumer::Partition;
use crate::clock::Clock;

/// Longest wait for one answer: shorter than the interval would make a slow broker look away, longer would delay stop.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a partition ended when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndProof {
    /// The host's wall clock before the question was sent, unix milliseconds.
    pub asked_at_ms: i64,
    /// The high watermark (read_uncommitted): control records and open transactions included.
    pub end_offset: i64,
    /// The first offset that retention has left.
    pub start_offset: i64,
}

#[derive(Default)]
struct Shared {
    partitions: Vec<Partition>,
    proofs: BTreeMap<Partition, EndProof>,
    stopped: bool,
}

type Board = Arc<(Mutex<Shared>, Condvar)>;

/// One thread with a client of its own. Answers wait until the task takes them.
pub struct EndProbe {
    board: Board,
    thread: Option<JoinHandle<()>>,
}

fn with<R>(board: &Board, f: impl FnOnce(&mut Shared) -> R) -> R {
    // Nothing panics while it holds the lock; a poisoned one would still be whole.
    f(&mut board.0.lock().unwrap_or_else(PoisonError::into_inner))
}

impl EndProbe {
    /// Asks for each partition every `interval`; unparks `wake` after a round.
    ///
    /// # Errors
    /// A property that librdkafka refuses, or no thread.
    pub fn start(
        properties: &BTreeMap<String, String>,
        interval: Duration,
        wake: Thread,
    ) -> Result<Self, ClientError> {
        // Offsets of read_uncommitted: a transaction that is still open must count as not read.
        let mut config = client_config(properties, &[("isolation.level", "read_uncommitted")]);
        config.remove("group.instance.id");
        let client: BaseConsumer = config
            .create()
            .map_err(|cause| ClientError::new("end probe", cause))?;
        let board = Board::default();
        let shared = Arc::clone(&board);
        let thread = std::thread::Builder::new()
            .name("weir-end-probe".to_owned())
            .spawn(move || {
                while let Some(partitions) = next_round(&shared, interval) {
                    ask_all(&client, &shared, &partitions);
                    wake.unpark();
                }
            });
        // Out of threads: the task goes on without proofs, which only keeps idle partitions from advancing.
        let thread = thread
            .inspect_err(|error| tracing::error!(event = "end_probe_failed", %error))
            .ok();
        Ok(EndProbe { board, thread })
    }

    /// Which partitions to ask for from now on.
    pub fn watch(&self, partitions: Vec<Partition>) {
        with(&self.board, |shared| {
            shared
                .proofs
                .retain(|partition, _| partitions.contains(partition));
            shared.partitions = partitions;
        });
        self.board.1.notify_all();
    }

    /// Answers since the last call.
    pub fn take(&self) -> BTreeMap<Partition, EndProof> {
        with(&self.board, |shared| std::mem::take(&mut shared.proofs))
    }
}

impl Drop for EndProbe {
    fn drop(&mut self) {
        with(&self.board, |shared| shared.stopped = true);
        self.board.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // Waits for at most one answer: `ask_all` looks at `stopped` before each.
            let _ = thread.join();
        }
    }
}

/// Sleeps one interval; `None` when stopped.
fn next_round(board: &Board, interval: Duration) -> Option<Vec<Partition>> {
    let shared = board.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (shared, _) = board
        .1
        .wait_timeout_while(shared, interval, |shared| !shared.stopped)
        .unwrap_or_else(PoisonError::into_inner);
    (!shared.stopped).then(|| shared.partitions.clone())
}

fn ask_all(client: &BaseConsumer, board: &Board, partitions: &[Partition]) {
    for partition in partitions {
        if with(board, |shared| shared.stopped) {
            return;
        }
        let asked_at_ms = Clock::System.now_ms();
        match client.fetch_watermarks(&partition.0, partition.1, ASK_TIMEOUT) {
            Ok((start_offset, end_offset)) => with(board, |shared| {
                let proof = EndProof {
                    asked_at_ms,
                    end_offset,
                    start_offset,
                };
                shared.proofs.insert(partition.clone(), proof);
            }),
            // Kafka is away: no proof, no advance. The rest of the round would wait as long.
            Err(error) => {
                tracing::debug!(event = "end_probe_unanswered", topic = partition.0, partition = partition.1, %error);
                return;
            }
        }
    }
}
