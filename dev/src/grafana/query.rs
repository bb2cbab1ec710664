//! Query A: what the Elasticsearch data source of Grafana sends and what it makes of the answer.

use serde::Deserialize;
use serde_json::{Value, json};

/// The query model that alert rules and dashboard panels share: metrics in a date histogram.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElasticsearchQuery {
    pub ref_id: String,
    /// Lucene query text; empty means everything.
    pub query: String,
    pub metrics: Vec<Metric>,
    pub bucket_aggs: Vec<DateHistogram>,
    pub time_field: String,
    pub datasource: Option<DataSourceRef>,
    pub alias: Option<String>,
    pub interval_ms: Option<u64>,
    pub max_data_points: Option<u64>,
}

/// How a dashboard or a query points at its data source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSourceRef {
    #[serde(rename = "type")]
    pub kind: String,
    pub uid: String,
}

/// One number per bucket. Without `id` Grafana sees no data for ever, so it is not optional here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: MetricKind,
    pub field: String,
}

/// Elasticsearch's name of the aggregation is the same word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    Max,
    Min,
    Avg,
    Sum,
}

impl MetricKind {
    fn aggregation(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
            Self::Avg => "avg",
            Self::Sum => "sum",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateHistogram {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: HistogramKind,
    pub field: String,
    pub settings: HistogramSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistogramKind {
    DateHistogram,
}

/// Grafana's editor writes numbers as text here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistogramSettings {
    pub interval: String,
    pub min_doc_count: String,
    #[serde(rename = "trimEdges")]
    pub trim_edges: String,
}

/// A bucket: its start and the metric, `None` where no document gave one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at_ms: i64,
    pub value: Option<f64>,
}

/// The buckets in the order of time. No series at all (`None` elsewhere) is what a missing index gives.
pub type Series = Vec<Point>;

impl ElasticsearchQuery {
    /// What is wrong with the query although it has the right shape, as one sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.metrics.len() != 1 {
            faults.push(format!(
                "Query {} has {} metrics, not one.",
                self.ref_id,
                self.metrics.len()
            ));
        }
        if self.bucket_aggs.len() != 1 {
            faults.push(format!(
                "Query {} has {} bucket aggregations, not one.",
                self.ref_id,
                self.bucket_aggs.len()
            ));
        }
        for histogram in &self.bucket_aggs {
            if super::parse_duration_ms(&histogram.settings.interval).is_none_or(|ms| ms == 0) {
                faults.push(format!(
                    "The interval `{}` of query {} is no duration.",
                    histogram.settings.interval, self.ref_id
                ));
            }
            if histogram.settings.min_doc_count.parse::<u64>().is_err() {
                faults.push(format!(
                    "min_doc_count of query {} is no number.",
                    self.ref_id
                ));
            }
            if histogram.settings.trim_edges != "0" {
                faults.push(format!(
                    "trimEdges of query {} is not \"0\": the newest bucket would be thrown away.",
                    self.ref_id
                ));
            }
        }
        faults
    }

    /// Header and body of the `_msearch` that Grafana sends for the range `[from_ms, to_ms]`, both ends included. A missing index is
    /// ignored (`ignore_unavailable`), and the extended bounds make every minute of the range a bucket, empty or not.
    pub fn msearch(&self, index: &str, from_ms: i64, to_ms: i64) -> (Value, Value) {
        let header = json!({ "ignore_unavailable": true, "index": index, "search_type": "query_then_fetch" });
        let mut filters = vec![json!({
            "range": { self.time_field.as_str(): { "gte": from_ms, "lte": to_ms, "format": "epoch_millis" } }
        })];
        if !self.query.is_empty() {
            filters
                .push(json!({ "query_string": { "analyze_wildcard": true, "query": self.query } }));
        }
        let metrics: serde_json::Map<String, Value> = self
            .metrics
            .iter()
            .map(|metric| {
                (
                    metric.id.clone(),
                    json!({ metric.kind.aggregation(): { "field": metric.field } }),
                )
            })
            .collect();
        let histograms: serde_json::Map<String, Value> = self
            .bucket_aggs
            .iter()
            .map(|histogram| {
                let date_histogram = json!({
                    "field": histogram.field,
                    "fixed_interval": histogram.settings.interval,
                    "min_doc_count": histogram.settings.min_doc_count.parse::<u64>().unwrap_or(0),
                    "extended_bounds": { "min": from_ms, "max": to_ms },
                    "format": "epoch_millis",
                });
                (
                    histogram.id.clone(),
                    json!({ "date_histogram": date_histogram, "aggs": metrics }),
                )
            })
            .collect();
        (
            header,
            json!({ "size": 0, "query": { "bool": { "filter": filters } }, "aggs": histograms }),
        )
    }

    /// The series in one response of `_msearch`. `Ok(None)`: no aggregation came back, as for a missing index. `Err`: the response
    /// reports an error, or is not what was asked for.
    pub fn series(&self, response: &Value) -> Result<Option<Series>, String> {
        if let Some(error) = response.get("error") {
            return Err(format!("Elasticsearch refused the query: {error}"));
        }
        let (Some(histogram), Some(metric)) = (self.bucket_aggs.first(), self.metrics.first())
        else {
            return Err(format!(
                "Query {} has no bucket aggregation or no metric.",
                self.ref_id
            ));
        };
        let Some(aggregations) = response.get("aggregations") else {
            return Ok(None);
        };
        let buckets = aggregations
            .get(&histogram.id)
            .and_then(|aggregation| aggregation.get("buckets"))
            .and_then(Value::as_array)
            .ok_or_else(|| format!("The answer has no buckets of aggregation {}.", histogram.id))?;
        let point = |bucket: &Value| {
            let at_ms = bucket.get("key").and_then(Value::as_i64)?;
            let value = bucket
                .get(&metric.id)
                .and_then(|metric| metric.get("value"))
                .and_then(Value::as_f64);
            Some(Point { at_ms, value })
        };
        let points = buckets
            .iter()
            .map(|bucket| point(bucket).ok_or_else(|| format!("A bucket has no key: {bucket}")));
        points.collect::<Result<Series, String>>().map(Some)
    }
}
