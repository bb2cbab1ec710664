//! Every metric, declared once: the exposition and the documentation both read this list.

use std::fmt::Write as _;

/// A metric's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only rises, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution in buckets, with sum and count.
    Histogram,
}

impl MetricKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric: its name as `/metrics` shows it, kind, unit, labels and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The whole name, with `_total` where it has one.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: &'static str,
    /// Its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const PARTITION: &[&str] = &["pipeline", "task", "node", "topic", "partition"];

pub(super) const BUILD_INFO: Metric = Metric {
    name: "weir_build_info",
    kind: MetricKind::Gauge,
    unit: "always 1",
    labels: &["pipeline", "version"],
    help: "The version that runs.",
};
pub(super) const SOURCE_RECORDS: Metric = Metric {
    name: "weir_source_records_total",
    kind: MetricKind::Counter,
    unit: "records",
    labels: PARTITION,
    help: "Records read from a source partition.",
};
pub(super) const SOURCE_LOST_RECORDS: Metric = Metric {
    name: "weir_source_lost_records_total",
    kind: MetricKind::Counter,
    unit: "records",
    labels: PARTITION,
    help: "Records that retention removed before they were read.",
};
pub(super) const SOURCE_LAG: Metric = Metric {
    name: "weir_source_lag_records",
    kind: MetricKind::Gauge,
    unit: "records",
    labels: PARTITION,
    help: "Records between the read position and the end of an assigned partition.",
};
pub(super) const WATERMARK: Metric = Metric {
    name: "weir_watermark_timestamp_seconds",
    kind: MetricKind::Gauge,
    unit: "seconds since the Unix epoch",
    labels: PARTITION,
    help: "Event time up to which an assigned partition is complete.",
};
pub(super) const RECORDS_SETTLED: Metric = Metric {
    name: "weir_records_settled_total",
    kind: MetricKind::Counter,
    unit: "records",
    labels: &["pipeline", "task", "outcome"],
    help: "Source records by what became of them; with the pending ones they make up the records read.",
};
pub(super) const RECORDS_PENDING: Metric = Metric {
    name: "weir_records_pending",
    kind: MetricKind::Gauge,
    unit: "records",
    labels: &["pipeline", "task"],
    help: "Source records read and not yet settled.",
};
pub(super) const DERIVED_RECORDS: Metric = Metric {
    name: "weir_derived_records_total",
    kind: MetricKind::Counter,
    unit: "records",
    labels: &["pipeline", "task", "node", "outcome"],
    help: "Records that a node made, by what became of them.",
};
pub(super) const PLUGIN_CALL_DURATION: Metric = Metric {
    name: "weir_plugin_call_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    labels: &["pipeline", "task", "node"],
    help: "How long one call into a plugin took.",
};
pub(super) const CHECKPOINT_DURATION: Metric = Metric {
    name: "weir_checkpoint_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    labels: &["pipeline", "task"],
    help: "How long a checkpoint took, from the stop of the processing to its durable end.",
};
pub(super) const SINK_ERRORS: Metric = Metric {
    name: "weir_sink_errors_total",
    kind: MetricKind::Counter,
    unit: "errors",
    labels: &["pipeline", "task", "node", "class"],
    help: "Errors that the target of a sink answered with.",
};
pub(super) const SINK_ITEMS: Metric = Metric {
    name: "weir_sink_items_total",
    kind: MetricKind::Counter,
    unit: "operations",
    labels: &["pipeline", "task", "node", "outcome"],
    help: "Operations of a sink by how they ended; `retried`: an answer that asked for another try; `invalid`: a record that makes no operation.",
};
pub(super) const SINK_RECORDS_ACCEPTED: Metric = Metric {
    name: "weir_sink_records_accepted_total",
    kind: MetricKind::Counter,
    unit: "records",
    labels: &["pipeline", "task", "node"],
    help: "Records that a sink has accepted: those that ended in `weir_sink_items_total`, `retried` left out, and the pending ones. Those pending at a restart of the task are accepted again.",
};
pub(super) const SINK_ITEM_ERRORS: Metric = Metric {
    name: "weir_sink_item_errors_total",
    kind: MetricKind::Counter,
    unit: "operations",
    labels: &["pipeline", "task", "node", "type"],
    help: "Operations of a sink that an answer named an error for, by the error's type as far as the sink knows it, else `other`.",
};
pub(super) const SINK_PAUSED: Metric = Metric {
    name: "weir_sink_paused",
    kind: MetricKind::Gauge,
    unit: "1 while it holds, else 0",
    labels: &["pipeline", "task", "node", "class"],
    help: "Why a sink makes no progress now.",
};
pub(super) const SINK_REQUEST_OPERATIONS: Metric = Metric {
    name: "weir_sink_request_operations",
    kind: MetricKind::Histogram,
    unit: "operations",
    labels: &["pipeline", "task", "node"],
    help: "Operations of each request of a sink.",
};
pub(super) const SINK_QUEUE_WAIT: Metric = Metric {
    name: "weir_sink_queue_wait_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    labels: &["pipeline", "task", "node"],
    help: "How long a record waited in a sink for its first request.",
};
pub(super) const SINK_LAG: Metric = Metric {
    name: "weir_sink_lag_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    labels: &["pipeline", "task", "node"],
    help: "Age of a record, by its own timestamp, when a sink had stored it.",
};
pub(super) const SINK_OPERATIONS: Metric = Metric {
    name: "weir_sink_operations_total",
    kind: MetricKind::Counter,
    unit: "operations",
    labels: &["pipeline", "task", "node", "method"],
    help: "Operations that a sink sent, repetitions included.",
};
pub(super) const SINK_REQUESTS: Metric = Metric {
    name: "weir_sink_requests_total",
    kind: MetricKind::Counter,
    unit: "requests",
    labels: &["pipeline", "task", "node", "class"],
    help: "Requests of a sink by what became of them.",
};
pub(super) const SINK_REQUEST_BYTES: Metric = Metric {
    name: "weir_sink_request_bytes_total",
    kind: MetricKind::Counter,
    unit: "bytes",
    labels: &["pipeline", "task", "node", "encoding"],
    help: "Bytes of the bodies that a sink sent, before (`raw`) and after compression (`sent`).",
};
pub(super) const SINK_SPLITS: Metric = Metric {
    name: "weir_sink_splits_total",
    kind: MetricKind::Counter,
    unit: "requests",
    labels: &["pipeline", "task", "node", "cause"],
    help: "Requests of a sink that were divided and sent again in parts.",
};
pub(super) const SINK_PENDING: Metric = Metric {
    name: "weir_sink_pending_records",
    kind: MetricKind::Gauge,
    unit: "records",
    labels: &["pipeline", "task", "node"],
    help: "Records that a sink has accepted and not settled.",
};
pub(super) const SINK_IN_FLIGHT: Metric = Metric {
    name: "weir_sink_requests_in_flight",
    kind: MetricKind::Gauge,
    unit: "requests",
    labels: &["pipeline", "task", "node"],
    help: "Requests of a sink that are on their way.",
};
pub(super) const SINK_BLOCKED: Metric = Metric {
    name: "weir_sink_blocked_records",
    kind: MetricKind::Gauge,
    unit: "records",
    labels: &["pipeline", "task", "node"],
    help: "Records of a sink that wait for another one on the same document.",
};
pub(super) const SINK_OLDEST_PENDING: Metric = Metric {
    name: "weir_sink_oldest_pending_seconds",
    kind: MetricKind::Gauge,
    unit: "seconds",
    labels: &["pipeline", "task", "node"],
    help: "Age of the oldest record that a sink has accepted and not settled.",
};
pub(super) const SINK_TARGET_UP: Metric = Metric {
    name: "weir_sink_target_up",
    kind: MetricKind::Gauge,
    unit: "1 if it works, else 0",
    labels: &["pipeline", "task", "node", "target"],
    help: "Whether a node took the last request that a sink sent to it.",
};
pub(super) const SINK_REQUEST_DURATION: Metric = Metric {
    name: "weir_sink_request_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    labels: &["pipeline", "task", "node"],
    help: "How long a request of a sink took, from its first byte to its whole answer.",
};
pub(super) const TASK_STATE: Metric = Metric {
    name: "weir_task_state",
    kind: MetricKind::Gauge,
    unit: "1 for the state the task is in, else 0",
    labels: &["pipeline", "task", "state"],
    help: "What the task is doing.",
};
pub(crate) const HOST_UP: Metric = Metric {
    name: "weir_host_up",
    kind: MetricKind::Gauge,
    unit: "1 if the host answered, else 0",
    labels: &["pipeline"],
    help: "Whether a host supervised by weir up answered when its metrics were asked for.",
};
pub(crate) const HOST_RESTARTS: Metric = Metric {
    name: "weir_host_restarts_total",
    kind: MetricKind::Counter,
    unit: "restarts",
    labels: &["pipeline"],
    help: "How often weir up has started a host again.",
};

/// Every metric, in the order in which `/metrics` shows them.
pub const CATALOGUE: &[Metric] = &[
    BUILD_INFO,
    SOURCE_RECORDS,
    SOURCE_LOST_RECORDS,
    SOURCE_LAG,
    WATERMARK,
    RECORDS_SETTLED,
    RECORDS_PENDING,
    DERIVED_RECORDS,
    PLUGIN_CALL_DURATION,
    CHECKPOINT_DURATION,
    SINK_ERRORS,
    SINK_RECORDS_ACCEPTED,
    SINK_ITEMS,
    SINK_ITEM_ERRORS,
    SINK_OPERATIONS,
    SINK_REQUESTS,
    SINK_REQUEST_BYTES,
    SINK_SPLITS,
    SINK_PENDING,
    SINK_IN_FLIGHT,
    SINK_BLOCKED,
    SINK_OLDEST_PENDING,
    SINK_TARGET_UP,
    SINK_PAUSED,
    SINK_REQUEST_DURATION,
    SINK_REQUEST_OPERATIONS,
    SINK_QUEUE_WAIT,
    SINK_LAG,
    TASK_STATE,
    HOST_UP,
    HOST_RESTARTS,
];

/// The catalogue as a markdown table, for the documentation.
pub fn catalogue_markdown() -> String {
    let mut table =
        String::from("| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in CATALOGUE {
        let labels = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect::<Vec<_>>()
            .join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {labels} | {} |",
            metric.name,
            metric.kind.name(),
            metric.unit,
            metric.help
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_counters_alone_end_in_total() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for metric in CATALOGUE {
            assert!(metric.name.starts_with("weir_"), "{}", metric.name);
            let is_counter = metric.kind == MetricKind::Counter;
            assert_eq!(
                metric.name.ends_with("_total"),
                is_counter,
                "{}",
                metric.name
            );
            assert_eq!(metric.labels.first(), Some(&"pipeline"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_table_has_a_line_per_metric() {
        assert_eq!(catalogue_markdown().lines().count(), CATALOGUE.len() + 2);
        assert!(catalogue_markdown().contains(
            "| `weir_sink_errors_total` | counter | errors | `pipeline`, `task`, `node`, `class` |"
        ));
    }
}
