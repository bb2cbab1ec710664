//! Every bound of a task in one place, with its reason.

use std::time::Duration;

/// Records of one read: past 1,000 the cost of a call is not measurable any more.
pub const BATCH_RECORDS_MAX: usize = 1_024;
/// A turn that took less lets the next batch double; one that took ten times as long halves it.
pub const QUICK_TURN: Duration = Duration::from_millis(10);
/// How long a turn without work sleeps at most: sinks are to be polled every 100 ms.
pub const IDLE_WAIT: Duration = Duration::from_millis(100);
/// How long it sleeps while a sink is full: verdicts make room within a millisecond or two.
pub const FULL_WAIT: Duration = Duration::from_millis(2);
/// From when on, and how long, it sleeps while a sink stays full: one that is away is not worth 500 looks a second.
pub const FULL_LONG_AFTER: Duration = Duration::from_secs(1);
pub const FULL_LONG_WAIT: Duration = Duration::from_millis(20);
/// How often plugin sinks are polled under load.
pub const SINK_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A wait for Kafka of this length is told.
pub const LONG_WAIT: Duration = Duration::from_secs(5);
/// How long a commit waits for the producer; Kafka away longer than that is tried again at the next.
pub const FLUSH_WAIT: Duration = Duration::from_millis(500);
/// How long revoked partitions may take to finish: below half of Kafka's default rebalance timeout of 5 min, and
/// long enough for a record that takes 10 s.
pub const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one question to the group's coordinator or a partition's leader may take.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before Kafka is asked again.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often the active host of a pipeline looks for partitions that were added to its sources.
pub const NEW_PARTITIONS_INTERVAL: Duration = Duration::from_secs(30);
/// How often partition ends are asked for where event time depends on them: a window closes within `idle_grace` + 2 s.
pub const PROBE_INTERVAL_TIMED: Duration = Duration::from_millis(500);
/// How often they are asked for where only the lag does.
pub const PROBE_INTERVAL_LAG: Duration = Duration::from_secs(5);
/// A partition this far ahead of the pipeline's watermark is not read until the others follow: it bounds open windows.
pub const SKEW_MAX_MS: i64 = 10 * 60 * 1_000;
/// First wait before a broken task starts anew.
pub const RESTART_WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
pub const RESTART_WAIT_MAX: Duration = Duration::from_secs(60);
/// A task that worked this long starts counting its breaks anew.
pub const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// How long outputs leave one at a time, from the last one that was found to be at fault to the next commit: a window that
/// has not been made again within a minute may never be, after its partition went elsewhere.
pub const OUTPUT_SEARCH_MAX: Duration = Duration::from_secs(60);
/// Records and outputs at fault that are remembered before the host gives up: each costs a restart of the task.
pub const POISONED_RECORDS_MAX: usize = 1_000;
/// KiB of prefetched records over all partitions together, where `queued.max.messages.kbytes` says nothing.
pub const PREFETCH_KBYTES: usize = 16 * 1024;
/// Least prefetch of one partition: one fetch of small records.
pub const PREFETCH_PARTITION_KBYTES_MIN: usize = 64;

/// An open transaction is given up after this part of `transaction.timeout.ms`: the coordinator would end it at the
/// whole, and readers wait for it until then.
pub const TRANSACTION_SHARE: u32 = 3;
/// How often a task tries to abort what an earlier run left open, [`ASK_AGAIN`] apart, before it starts anew: a minute
/// for coordinators that load and leaders that are elected.
pub const LEFTOVER_TRIES: u32 = 120;
/// How long abort markers may take after the answer to the abort before they count as missing.
pub const MARKERS_WAIT: Duration = Duration::from_millis(200);
/// Fewest records between two cuts, when sinks are too slow to settle more in a transaction's time.
pub const CUT_RECORDS_MIN: usize = 1;
/// A call of this length is worth remembering: it may not begin inside a transaction.
pub const LONG_CALL_MIN: Duration = Duration::from_secs(1);
/// How often the active host of a pipeline writes its offsets where nothing moves: Kafka keeps those of a group without
/// members for `offsets.retention.minutes`, 7 days by default.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(3_600);
/// For how long a long call is remembered.
pub const LONG_CALL_MEMORY: Duration = Duration::from_secs(600);
/// How long a seek, or a look at one's own commit, may take before it is tried again.
pub const SEEK_WAIT: Duration = Duration::from_secs(5);
/// How often an abort is tried before the task ends without it: the next producer of the same name does it then.
pub const ABORT_TRIES: u32 = 4;

/// Name, value and reason of each bound, for the docs.
pub const LIMITS: &[(&str, &str, &str)] = &[
    (
        "batch",
        "1,024 records",
        "past 1,000 the cost of a call is not measurable any more",
    ),
    (
        "unsettled records",
        "500,000 a task",
        "two seconds at 250,000 records/s, 12 MB of ledger",
    ),
    (
        "input of a node",
        "8,192 records",
        "eight batches; nodes above it wait",
    ),
    (
        "timers",
        "100,000 a task",
        "each is looked at in every turn",
    ),
    (
        "prefetch",
        "16 MiB a task, at least 64 KiB a partition",
        "memory; 40,000 visits",
    ),
    (
        "open transaction",
        "a third of transaction.timeout.ms",
        "sinks that settle later are waited for without one",
    ),
    (
        "call before a yield",
        "100 ms",
        "polls, flushes and commits come between",
    ),
    ("watchdog", "4 min", "below max.poll.interval.ms"),
    (
        "revocation",
        "30 s",
        "half of Kafka's rebalance timeout leaves room for the others",
    ),
    (
        "event-time skew",
        "10 min",
        "bounds the windows open at once",
    ),
    (
        "task restarts",
        "8 in a row (`task_restarts`), 1 s to 1 min apart",
        "about five minutes of trying",
    ),
    (
        "records at fault that are remembered",
        "1,000",
        "each costs a restart of the task",
    ),
    (
        "outputs leave one at a time after Kafka refused one",
        "1 min and the next commit; 100,000 known to be good",
        "a window that is not made again within a minute may never be",
    ),
    (
        "panics no record explains",
        "3",
        "then the task starts anew",
    ),
];
