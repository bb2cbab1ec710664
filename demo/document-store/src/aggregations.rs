//! Aggregations: `date_histogram` over time and the single-value metrics inside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::storage::Document;
use crate::timestamp;

/// `search.max_buckets` of Elasticsearch.
const BUCKETS_MAX: i64 = 65_536;

/// Aggregations by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Aggregations(BTreeMap<String, Aggregation>);

#[derive(Debug, Clone, PartialEq)]
enum Aggregation {
    DateHistogram(DateHistogram),
    Metric { kind: MetricKind, field: String },
}

#[derive(Debug, Clone, PartialEq)]
struct DateHistogram {
    interval_ms: i64,
    min_doc_count: u64,
    /// Buckets exist from the one of the first bound to the one of the second, documents or not.
    extended_bounds_ms: Option<(i64, i64)>,
    epoch_keys: bool,
    inner: Aggregations,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetricKind {
    Max,
    Min,
    Avg,
    Sum,
    ValueCount,
}

impl Aggregations {
    pub fn parse(aggregations: &Value, now_ms: i64) -> Result<Self, ApiError> {
        let Some(named) = aggregations.as_object() else {
            return Err(ApiError::parsing("[aggs] malformed, expected START_OBJECT"));
        };
        let mut parsed = BTreeMap::new();
        for (name, body) in named {
            parsed.insert(name.clone(), Aggregation::parse(name, body, now_ms)?);
        }
        Ok(Self(parsed))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn compute(&self, documents: &[&Document]) -> Result<Map<String, Value>, ApiError> {
        self.0
            .iter()
            .map(|(name, aggregation)| Ok((name.clone(), aggregation.compute(documents)?)))
            .collect()
    }
}

impl Aggregation {
    fn parse(name: &str, body: &Value, now_ms: i64) -> Result<Self, ApiError> {
        let Some(fields) = body.as_object() else {
            return Err(ApiError::parsing(format!(
                "Aggregation definition for [{name}] must be an object"
            )));
        };
        let inner = match body.get("aggs").or_else(|| body.get("aggregations")) {
            Some(inner) => Aggregations::parse(inner, now_ms)?,
            None => Aggregations::default(),
        };
        let mut definitions = fields
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "aggs" | "aggregations" | "meta"));
        let (Some((kind, settings)), None) = (definitions.next(), definitions.next()) else {
            return Err(ApiError::parsing(format!(
                "Missing definition for aggregation [{name}]"
            )));
        };
        if kind == "date_histogram" {
            return DateHistogram::parse(settings, inner, now_ms).map(Self::DateHistogram);
        }
        let kind = MetricKind::parse(kind)
            .ok_or_else(|| ApiError::parsing(format!("Unknown aggregation type [{kind}]")))?;
        if !inner.is_empty() {
            return Err(ApiError::new(
                400,
                "aggregation_initialization_exception",
                format!("Aggregator [{name}] cannot accept sub-aggregations"),
            ));
        }
        Ok(Self::Metric {
            kind,
            field: field_name(settings)?,
        })
    }

    fn compute(&self, documents: &[&Document]) -> Result<Value, ApiError> {
        match self {
            Self::DateHistogram(histogram) => histogram.compute(documents),
            Self::Metric { kind, field } => Ok(kind.compute(field, documents)),
        }
    }
}

impl DateHistogram {
    fn parse(settings: &Value, inner: Aggregations, now_ms: i64) -> Result<Self, ApiError> {
        let field = field_name(settings)?;
        if field != "@timestamp" {
            return Err(ApiError::illegal_argument(format!(
                "[date_histogram] of this document store takes [@timestamp] only, found [{field}]"
            )));
        }
        let interval = settings.get("fixed_interval").and_then(Value::as_str);
        let interval_ms = interval
            .and_then(timestamp::parse_duration_ms)
            .filter(|interval_ms| *interval_ms > 0)
            .ok_or_else(|| {
                ApiError::illegal_argument(format!(
                    "[date_histogram] needs a [fixed_interval] such as 1m, found [{}]",
                    interval.unwrap_or_default()
                ))
            })?;
        let min_doc_count = match settings.get("min_doc_count") {
            None => 0,
            Some(Value::String(text)) => text.parse().unwrap_or(0),
            Some(count) => count.as_u64().unwrap_or(0),
        };
        let extended_bounds_ms = match settings.get("extended_bounds") {
            None => None,
            Some(bounds) => Some((
                bound_ms(bounds, "min", now_ms)?,
                bound_ms(bounds, "max", now_ms)?,
            )),
        };
        Ok(Self {
            interval_ms,
            min_doc_count,
            extended_bounds_ms,
            epoch_keys: settings.get("format").and_then(Value::as_str) == Some("epoch_millis"),
            inner,
        })
    }

    fn compute(&self, documents: &[&Document]) -> Result<Value, ApiError> {
        let mut buckets: BTreeMap<i64, Vec<&Document>> = BTreeMap::new();
        for document in documents {
            if let Some(timestamp_ms) = document.timestamp_ms {
                buckets
                    .entry(self.key(timestamp_ms))
                    .or_default()
                    .push(document);
            }
        }
        if self.min_doc_count == 0 {
            self.add_empty_buckets(&mut buckets)?;
        }
        let buckets = buckets
            .into_iter()
            .filter(|(_, documents)| documents.len() as u64 >= self.min_doc_count)
            .map(|(key, documents)| self.bucket(key, &documents))
            .collect::<Result<Vec<Value>, ApiError>>()?;
        Ok(json!({"buckets": buckets}))
    }

    fn add_empty_buckets(
        &self,
        buckets: &mut BTreeMap<i64, Vec<&Document>>,
    ) -> Result<(), ApiError> {
        let first = buckets.keys().next().copied();
        let last = buckets.keys().next_back().copied();
        let bounds = self
            .extended_bounds_ms
            .map(|(min, max)| (self.key(min), self.key(max)));
        let (Some(first), Some(last)) = (
            [first, bounds.map(|(min, _)| min)]
                .into_iter()
                .flatten()
                .min(),
            [last, bounds.map(|(_, max)| max)]
                .into_iter()
                .flatten()
                .max(),
        ) else {
            return Ok(());
        };
        if last.saturating_sub(first) / self.interval_ms >= BUCKETS_MAX {
            return Err(ApiError::new(
                400,
                "too_many_buckets_exception",
                format!(
                    "Trying to create too many buckets. Must be less than or equal to: [{BUCKETS_MAX}]"
                ),
            ));
        }
        let mut key = first;
        while key <= last {
            buckets.entry(key).or_default();
            key = key.saturating_add(self.interval_ms);
        }
        Ok(())
    }

    fn bucket(&self, key: i64, documents: &[&Document]) -> Result<Value, ApiError> {
        let mut bucket = self.inner.compute(documents)?;
        let key_as_string = if self.epoch_keys {
            key.to_string()
        } else {
            timestamp::format_ms(key)
        };
        bucket.insert("key_as_string".to_owned(), key_as_string.into());
        bucket.insert("key".to_owned(), key.into());
        bucket.insert("doc_count".to_owned(), documents.len().into());
        Ok(Value::Object(bucket))
    }

    fn key(&self, timestamp_ms: i64) -> i64 {
        timestamp_ms - timestamp_ms.rem_euclid(self.interval_ms)
    }
}

impl MetricKind {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "max" => Some(Self::Max),
            "min" => Some(Self::Min),
            "avg" => Some(Self::Avg),
            "sum" => Some(Self::Sum),
            "value_count" => Some(Self::ValueCount),
            _ => None,
        }
    }

    /// Null where no document has a number, but for sums and counts, which are 0 then.
    fn compute(self, field: &str, documents: &[&Document]) -> Value {
        let values: Vec<f64> = documents
            .iter()
            .filter_map(|document| number(document, field))
            .collect();
        let sum: f64 = values.iter().sum();
        let value = match self {
            Self::Max => values.iter().copied().reduce(f64::max).map(Value::from),
            Self::Min => values.iter().copied().reduce(f64::min).map(Value::from),
            Self::Avg => (!values.is_empty()).then(|| Value::from(sum / values.len() as f64)),
            Self::Sum => Some(Value::from(sum)),
            Self::ValueCount => Some(Value::from(values.len())),
        };
        json!({"value": value})
    }
}

fn number(document: &Document, field: &str) -> Option<f64> {
    if field == "@timestamp" {
        return document.timestamp_ms.map(|timestamp| timestamp as f64);
    }
    document.field(field)?.as_f64()
}

fn field_name(settings: &Value) -> Result<String, ApiError> {
    settings
        .get("field")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| ApiError::illegal_argument("Required one of fields [field, script]"))
}

fn bound_ms(bounds: &Value, name: &str, now_ms: i64) -> Result<i64, ApiError> {
    bounds
        .get(name)
        .and_then(|bound| timestamp::parse_bound_ms(bound, now_ms))
        .ok_or_else(|| ApiError::parsing(format!("failed to parse [{name}] of [extended_bounds]")))
}
