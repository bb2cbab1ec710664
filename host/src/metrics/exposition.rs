//! Prometheus text, version 0.0.4: written from snapshots, and merged from several hosts.
//!
//! prometheus-client writes OpenMetrics, where a counter's HELP and TYPE lines leave `_total` off. Every scraper and
//! every tool reads the older format, so that is what leaves the process, in one format without negotiation.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::catalogue::{
    BUILD_INFO, CHECKPOINT_DURATION, DERIVED_RECORDS, Metric, MetricKind, PLUGIN_CALL_DURATION,
    RECORDS_PENDING, RECORDS_SETTLED, SINK_ERRORS, SINK_REQUEST_DURATION, SOURCE_LAG,
    SOURCE_LOST_RECORDS, SOURCE_RECORDS, TASK_STATE, WATERMARK,
};
use super::{Buckets, Outcome, Outcomes, TaskSnapshot};
use crate::status::{TaskState, TaskView};

/// What a metric of one host shows: its labels and a value.
type Sample = (Vec<String>, Value);

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Buckets),
}

/// Writes one host's metrics.
pub(super) fn render(
    pipeline: &str,
    snapshots: BTreeMap<u32, Arc<TaskSnapshot>>,
    states: BTreeMap<u32, TaskView>,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(HostSnapshot {
        pipeline: pipeline.to_owned(),
        snapshots,
        states,
    }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, &registry)?;
    let mut exposition = Exposition::default();
    exposition.add(&text);
    Ok(exposition.render())
}

#[derive(Debug)]
struct HostSnapshot {
    pipeline: String,
    snapshots: BTreeMap<u32, Arc<TaskSnapshot>>,
    states: BTreeMap<u32, TaskView>,
}

impl Collector for HostSnapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let build = (vec![version], Value::Gauge(1.0));
        self.family(&mut encoder, BUILD_INFO, vec![build])?;
        self.encode_partitions(&mut encoder)?;
        self.encode_records(&mut encoder)?;
        self.encode_durations(&mut encoder)?;
        self.encode_sinks(&mut encoder)?;
        self.encode_states(&mut encoder)
    }
}

impl HostSnapshot {
    fn encode_partitions(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let of_partitions = |value: fn(&super::PartitionCounters) -> Option<Value>| -> Vec<Sample> {
            let mut samples = Vec::new();
            for (task, snapshot) in &self.snapshots {
                samples.extend(snapshot.partitions().iter().filter_map(|partition| {
                    let labels = vec![
                        task.to_string(),
                        partition.node.clone(),
                        partition.topic.clone(),
                        partition.partition.to_string(),
                    ];
                    Some((labels, value(partition)?))
                }));
            }
            samples
        };
        let records = of_partitions(|p| Some(Value::Counter(p.records)));
        self.family(encoder, SOURCE_RECORDS, records)?;
        let lost = of_partitions(|p| Some(Value::Counter(p.lost)));
        self.family(encoder, SOURCE_LOST_RECORDS, lost)?;
        let lag = of_partitions(|p| p.lag_records.map(|records| Value::Gauge(records as f64)));
        self.family(encoder, SOURCE_LAG, lag)?;
        let watermark =
            of_partitions(|p| p.watermark_ms.map(|ms| Value::Gauge(ms as f64 / 1_000.0)));
        self.family(encoder, WATERMARK, watermark)
    }

    fn encode_records(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (mut settled, mut pending) = (Vec::new(), Vec::new());
        let (mut derived, mut errors) = (Vec::new(), Vec::new());
        for (task, snapshot) in &self.snapshots {
            let task = task.to_string();
            settled.extend(by_outcome(&[&task], &snapshot.settled));
            pending.push((vec![task.clone()], Value::Gauge(snapshot.pending as f64)));
            for node in snapshot.nodes() {
                derived.extend(by_outcome(&[&task, &node.node], &node.derived));
                errors.extend(node.sink_errors.iter().map(|(class, count)| {
                    let labels = vec![task.clone(), node.node.clone(), class.clone()];
                    (labels, Value::Counter(*count))
                }));
            }
        }
        self.family(encoder, RECORDS_SETTLED, settled)?;
        self.family(encoder, RECORDS_PENDING, pending)?;
        self.family(encoder, DERIVED_RECORDS, derived)?;
        self.family(encoder, SINK_ERRORS, errors)
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let (mut calls, mut checkpoints) = (Vec::new(), Vec::new());
        for (task, snapshot) in &self.snapshots {
            let task = task.to_string();
            calls.extend(snapshot.nodes().iter().map(|node| {
                let labels = vec![task.clone(), node.node.clone()];
                (
                    labels,
                    Value::Histogram(node.call_durations.buckets_seconds()),
                )
            }));
            let checkpoint = Value::Histogram(snapshot.checkpoint_durations.buckets_seconds());
            checkpoints.push((vec![task], checkpoint));
        }
        self.family(encoder, PLUGIN_CALL_DURATION, calls)?;
        self.family(encoder, CHECKPOINT_DURATION, checkpoints)
    }

    fn encode_sinks(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut families: BTreeMap<&str, (Metric, Vec<Sample>)> = BTreeMap::new();
        let mut durations = Vec::new();
        for (task, snapshot) in &self.snapshots {
            for node in snapshot.nodes() {
                let labels = vec![task.to_string(), node.node.clone()];
                for (metric, values) in node.sink.families() {
                    let (_, samples) = families.entry(metric.name).or_insert((metric, Vec::new()));
                    let values = values.into_iter();
                    samples
                        .extend(values.map(|(label, value)| number(&labels, metric, label, value)));
                }
                for (metric, buckets) in node.sink.histograms() {
                    let (_, samples) = families.entry(metric.name).or_insert((metric, Vec::new()));
                    samples.push((labels.clone(), Value::Histogram(buckets)));
                }
                if node.sink.request_durations.count() > 0 {
                    let of_node = Value::Histogram(node.sink.request_durations.buckets_seconds());
                    durations.push((labels, of_node));
                }
            }
        }
        for (metric, samples) in families.into_values() {
            self.family(encoder, metric, samples)?;
        }
        self.family(encoder, SINK_REQUEST_DURATION, durations)
    }

    fn encode_states(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let samples = self.states.iter().flat_map(|(task, view)| {
            TaskState::LABELS.iter().map(move |label| {
                let is_current = *label == view.state.label();
                let labels = vec![task.to_string(), (*label).to_owned()];
                (labels, Value::Gauge(f64::from(u8::from(is_current))))
            })
        });
        self.family(encoder, TASK_STATE, samples.collect())
    }

    /// Writes one metric. The label values follow the order of the catalogue, after the pipeline's.
    fn family(
        &self,
        encoder: &mut DescriptorEncoder,
        metric: Metric,
        samples: Vec<Sample>,
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let (name, kind) = match metric.kind {
            // The encoder appends `_total` by itself.
            MetricKind::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
            MetricKind::Gauge => (metric.name, MetricType::Gauge),
            MetricKind::Histogram => (metric.name, MetricType::Histogram),
        };
        let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
        for (values, value) in samples {
            let values = [self.pipeline.as_str()]
                .into_iter()
                .chain(values.iter().map(String::as_str));
            let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
            encode_value(family.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }
}

/// A number that a sink reports; `label` is empty where the metric has none of its own.
fn number(labels: &[String], metric: Metric, label: &str, value: f64) -> Sample {
    let label = (!label.is_empty()).then(|| label.to_owned());
    let value = match metric.kind {
        MetricKind::Counter => Value::Counter(value as u64),
        MetricKind::Gauge | MetricKind::Histogram => Value::Gauge(value),
    };
    (labels.iter().cloned().chain(label).collect(), value)
}

fn by_outcome(labels: &[&str], outcomes: &Outcomes) -> Vec<Sample> {
    let sample = |outcome: Outcome| {
        let labels = labels.iter().copied().chain([outcome.label()]);
        let labels = labels.map(str::to_owned).collect();
        (labels, Value::Counter(outcomes.get(outcome)))
    };
    Outcome::ALL.into_iter().map(sample).collect()
}

fn encode_value(mut encoder: MetricEncoder<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Counter(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Gauge(gauge) => encoder.encode_gauge(gauge),
        Value::Histogram(buckets) => encoder.encode_histogram::<NoLabelSet>(
            buckets.sum,
            buckets.count(),
            &buckets.each,
            None,
        ),
    }
}

/// Metric families in the order in which they first appeared, each with its HELP and TYPE once.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug, Default)]
struct Family {
    name: String,
    help: String,
    kind: String,
    samples: Vec<String>,
}

impl Exposition {
    /// Adds the families of a text in this format or in OpenMetrics. Samples join the family of the metadata line
    /// before them; samples before any metadata are passed over.
    pub(crate) fn add(&mut self, text: &str) {
        let mut current = None;
        for line in text.lines() {
            if let Some((name, help)) = metadata(line, "# HELP ") {
                let family = self.family(name);
                family.help = help.to_owned();
                current = Some(name.to_owned());
            } else if let Some((name, kind)) = metadata(line, "# TYPE ") {
                let family = self.family(name);
                family.kind = kind.to_owned();
                current = Some(name.to_owned());
            } else if let Some(name) = current.as_ref().filter(|_| is_sample(line)) {
                self.family(name).samples.push(line.to_owned());
            }
        }
    }

    /// Adds one metric of the catalogue, each sample with its only label `pipeline`.
    pub(crate) fn add_by_pipeline(&mut self, metric: Metric, samples: &[(&str, u64)]) {
        let family = self.family(metric.name.trim_end_matches("_total"));
        metric.help.clone_into(&mut family.help);
        metric.kind.name().clone_into(&mut family.kind);
        let line = |(pipeline, value): &(&str, u64)| {
            // A pipeline's name is made of [a-z0-9_-], so nothing needs an escape.
            format!("{}{{pipeline=\"{pipeline}\"}} {value}", metric.name)
        };
        family.samples.extend(samples.iter().map(line));
    }

    fn family(&mut self, name: &str) -> &mut Family {
        let name = name.trim_end_matches("_total");
        let place = match self.families.iter().position(|family| family.name == name) {
            Some(place) => place,
            None => {
                self.families.push(Family {
                    name: name.to_owned(),
                    ..Family::default()
                });
                self.families.len() - 1
            }
        };
        &mut self.families[place]
    }

    /// The text, version 0.0.4.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for family in &self.families {
            let suffix = if family.kind == "counter" {
                "_total"
            } else {
                ""
            };
            let Family {
                name, help, kind, ..
            } = family;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            for sample in &family.samples {
                let _ = writeln!(text, "{sample}");
            }
        }
        text
    }
}

fn is_sample(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

fn metadata<'a>(line: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(prefix)?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{HostMetrics, catalogue::HOST_RESTARTS};
    use crate::status::HostStatus;
    use std::time::Duration;
    use weir_plugin_api::sink_metric;

    fn one_of_everything(pipeline: &str) -> String {
        let status = Arc::new(HostStatus::new(pipeline));
        let metrics = HostMetrics::new(Arc::clone(&status));
        status.task(0).set(TaskState::Running);
        let mut meter = metrics.meter(0);
        let partition = meter.counters.partition("visits", "visits", 1);
        let node = meter.counters.node("reduced");
        meter.counters.read(partition, 7);
        meter.counters.settle(Outcome::Delivered, 4);
        meter.counters[partition].lag_records = Some(12);
        meter.counters[partition].watermark_ms = Some(1_500);
        meter.counters[node].derived.add(Outcome::DeadLettered, 2);
        meter.counters[node].add_sink_errors("quo\"ted", 1);
        let took = Duration::from_millis(3);
        meter.counters[node].call_durations.observe(took);
        for (label, value) in [("20", 1), ("inf", 2), ("1000", 4), ("sum", 9_500)] {
            let sink = &mut meter.counters[node].sink;
            sink.take(sink_metric::LAG_MS, label, value);
        }
        drop(meter);
        metrics.render().expect("text")
    }

    #[test]
    fn every_sample_stands_under_its_own_metadata() {
        let text = one_of_everything("p");
        for expected in [
            "# TYPE weir_source_records_total counter",
            r#"weir_source_records_total{pipeline="p",task="0",node="visits",topic="visits",partition="1"} 7"#,
            r#"weir_source_lag_records{pipeline="p",task="0",node="visits",topic="visits",partition="1"} 12.0"#,
            r#"weir_watermark_timestamp_seconds{pipeline="p",task="0",node="visits",topic="visits",partition="1"} 1.5"#,
            r#"weir_records_settled_total{pipeline="p",task="0",outcome="delivered"} 4"#,
            r#"weir_records_settled_total{pipeline="p",task="0",outcome="rewound"} 0"#,
            r#"weir_records_pending{pipeline="p",task="0"} 3.0"#,
            r#"weir_derived_records_total{pipeline="p",task="0",node="reduced",outcome="dead_lettered"} 2"#,
            r#"weir_sink_errors_total{pipeline="p",task="0",node="reduced",class="quo\"ted"} 1"#,
            "# TYPE weir_plugin_call_duration_seconds histogram",
            r#"weir_plugin_call_duration_seconds_bucket{le="0.001",pipeline="p",task="0",node="reduced"} 0"#,
            r#"weir_plugin_call_duration_seconds_bucket{le="0.005",pipeline="p",task="0",node="reduced"} 1"#,
            r#"weir_plugin_call_duration_seconds_bucket{le="+Inf",pipeline="p",task="0",node="reduced"} 1"#,
            r#"weir_plugin_call_duration_seconds_count{pipeline="p",task="0",node="reduced"} 1"#,
            r#"weir_checkpoint_duration_seconds_count{pipeline="p",task="0"} 0"#,
            "# TYPE weir_sink_lag_seconds histogram",
            r#"weir_sink_lag_seconds_bucket{le="0.02",pipeline="p",task="0",node="reduced"} 1"#,
            r#"weir_sink_lag_seconds_bucket{le="1.0",pipeline="p",task="0",node="reduced"} 5"#,
            r#"weir_sink_lag_seconds_bucket{le="+Inf",pipeline="p",task="0",node="reduced"} 7"#,
            r#"weir_sink_lag_seconds_sum{pipeline="p",task="0",node="reduced"} 9.5"#,
            r#"weir_sink_lag_seconds_count{pipeline="p",task="0",node="reduced"} 7"#,
            r#"weir_task_state{pipeline="p",task="0",state="running"} 1.0"#,
            r#"weir_task_state{pipeline="p",task="0",state="failed"} 0.0"#,
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected}\n{text}"
            );
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    #[test]
    fn two_hosts_merge_into_one_text_with_each_family_once() {
        let mut merged = Exposition::default();
        merged.add(&one_of_everything("a"));
        merged.add(&one_of_everything("b"));
        merged.add_by_pipeline(HOST_RESTARTS, &[("a", 0), ("b", 2)]);
        let text = merged.render();
        let types: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        let mut unique = types.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(types.len(), unique.len());
        let alone = one_of_everything("a")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count();
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples, 2 * alone + 2);
        assert!(text.ends_with("weir_host_restarts_total{pipeline=\"b\"} 2\n"));
    }
}
