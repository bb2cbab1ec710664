//! Search and count over the indices that a request names.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::aggregations::Aggregations;
use crate::answer::matches_pattern;
use crate::error::ApiError;
use crate::query::Query;
use crate::storage::{Document, Storage};
use crate::timestamp;

/// `index.max_result_window` of Elasticsearch.
const RESULTS_MAX: usize = 10_000;

/// Which indices a request means.
#[derive(Debug, Clone)]
pub(crate) struct Indices {
    /// Names and patterns separated by commas; empty, `_all` and `*` mean every index.
    pub pattern: String,
    pub ignore_unavailable: bool,
}

/// One search, checked.
pub(crate) struct Search {
    query: Query,
    from: usize,
    size: usize,
    sort: Vec<SortKey>,
    source: bool,
    aggregations: Aggregations,
}

struct SortKey {
    field: String,
    descending: bool,
}

#[derive(Serialize)]
pub(crate) struct SearchAnswer {
    took: u64,
    timed_out: bool,
    _shards: Value,
    hits: Hits,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregations: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

#[derive(Serialize)]
struct Hits {
    total: Value,
    max_score: Option<f64>,
    hits: Vec<Hit>,
}

#[derive(Serialize)]
struct Hit {
    _index: String,
    _id: String,
    _score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    _source: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sort: Vec<Value>,
}

impl Indices {
    /// The existing indices that are meant, or the error for a named one that does not exist.
    fn resolve<'a>(&self, storage: &'a Storage) -> Result<Vec<&'a str>, ApiError> {
        let mut names: Vec<&str> = Vec::new();
        let pattern = match self.pattern.as_str() {
            "" | "_all" => "*",
            pattern => pattern,
        };
        for part in pattern.split(',') {
            let before = names.len();
            names.extend(storage.names().filter(|name| matches_pattern(part, name)));
            if names.len() == before && !part.contains('*') && !self.ignore_unavailable {
                return Err(ApiError::index_not_found(part));
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl Search {
    /// Reads a search body; an empty object finds everything.
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        let Some(fields) = body.as_object() else {
            return Err(ApiError::parsing(
                "search body malformed, expected START_OBJECT",
            ));
        };
        let now_ms = timestamp::now_ms();
        let mut search = Self {
            query: Query::All,
            from: 0,
            size: 10,
            sort: Vec::new(),
            source: true,
            aggregations: Aggregations::default(),
        };
        for (name, value) in fields {
            match name.as_str() {
                "query" => search.query = Query::parse(value, now_ms)?,
                "from" => search.from = count(name, value)?,
                "size" => search.size = count(name, value)?,
                "sort" => search.sort = parse_sort(value)?,
                "_source" => search.source = value != &Value::Bool(false),
                "aggs" | "aggregations" => {
                    search.aggregations = Aggregations::parse(value, now_ms)?;
                }
                // What Grafana and other clients send besides, without effect on one exact index.
                "track_total_hits"
                | "docvalue_fields"
                | "fields"
                | "script_fields"
                | "stored_fields"
                | "highlight"
                | "timeout"
                | "version"
                | "seq_no_primary_term" => {}
                other => {
                    return Err(ApiError::parsing(format!(
                        "unknown key [{other}] in the search body"
                    )));
                }
            }
        }
        if search.from.saturating_add(search.size) > RESULTS_MAX {
            return Err(ApiError::illegal_argument(format!(
                "Result window is too large, from + size must be less than or equal to: [{RESULTS_MAX}]"
            )));
        }
        Ok(search)
    }

    /// The search that the URL's `q`, `size`, `from` and `sort=FIELD:ORDER` describe, on top of the body.
    pub fn parse_with_url(
        body: Value,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ApiError> {
        let Value::Object(mut fields) = body else {
            return Self::parse(&body);
        };
        if let Some(query) = parameter("q") {
            fields.insert(
                "query".to_owned(),
                json!({"query_string": {"query": query}}),
            );
        }
        for name in ["from", "size"] {
            if let Some(text) = parameter(name) {
                let number = text.parse::<usize>().map_err(|_| {
                    ApiError::illegal_argument(format!(
                        "Failed to parse int parameter [{name}] with value [{text}]"
                    ))
                })?;
                fields.insert(name.to_owned(), number.into());
            }
        }
        if let Some(sort) = parameter("sort") {
            let keys: Vec<Value> = sort
                .split(',')
                .map(|key| match key.split_once(':') {
                    Some((field, order)) => json!({ field: order }),
                    None => json!(key),
                })
                .collect();
            fields.insert("sort".to_owned(), Value::Array(keys));
        }
        Self::parse(&Value::Object(fields))
    }

    pub fn run(&self, storage: &Storage, indices: &Indices) -> Result<SearchAnswer, ApiError> {
        let names = indices.resolve(storage)?;
        let mut found: Vec<(&str, &Document)> = names
            .iter()
            .filter_map(|name| Some((*name, storage.index(name)?)))
            .flat_map(|(name, index)| {
                index
                    .documents()
                    .into_iter()
                    .map(move |document| (name, document))
            })
            .filter(|(_, document)| self.query.meets(document))
            .collect();
        let documents: Vec<&Document> = found.iter().map(|(_, document)| *document).collect();
        let aggregations = match self.aggregations.is_empty() {
            true => None,
            false => Some(self.aggregations.compute(&documents)?),
        };
        let total = found.len();
        found.sort_by(|(_, left), (_, right)| self.compare(left, right));
        let hits = found
            .into_iter()
            .skip(self.from)
            .take(self.size)
            .map(|(index, document)| self.hit(index, document))
            .collect();
        Ok(SearchAnswer {
            took: 0,
            timed_out: false,
            _shards: shards(names.len()),
            hits: Hits {
                total: json!({"value": total, "relation": "eq"}),
                max_score: (self.sort.is_empty() && total > 0 && self.size > 0).then_some(1.0),
                hits,
            },
            aggregations,
            status: None,
        })
    }

    fn hit(&self, index: &str, document: &Document) -> Hit {
        Hit {
            _index: index.to_owned(),
            _id: document.id.clone(),
            _score: self.sort.is_empty().then_some(1.0),
            _source: self.source.then(|| document.source.clone()),
            sort: self.sort.iter().map(|key| key.value(document)).collect(),
        }
    }

    fn compare(&self, left: &Document, right: &Document) -> Ordering {
        self.sort
            .iter()
            .map(|key| key.compare(left, right))
            .find(|ordering| ordering.is_ne())
            .unwrap_or_else(|| left.seq_no.cmp(&right.seq_no))
    }
}

impl SortKey {
    fn value(&self, document: &Document) -> Value {
        match self.field.as_str() {
            "@timestamp" => document.timestamp_ms.into(),
            "_doc" | "_shard_doc" => document.seq_no.into(),
            "_id" => document.id.clone().into(),
            field => document.field(field).unwrap_or(Value::Null),
        }
    }

    /// A document without the field comes last in both directions.
    fn compare(&self, left: &Document, right: &Document) -> Ordering {
        let (left, right) = (self.value(left), self.value(right));
        let ordering = match (&left, &right) {
            (Value::Null, Value::Null) => return Ordering::Equal,
            (Value::Null, _) => return Ordering::Greater,
            (_, Value::Null) => return Ordering::Less,
            (Value::Number(left), Value::Number(right)) => left
                .as_f64()
                .partial_cmp(&right.as_f64())
                .unwrap_or(Ordering::Equal),
            (Value::String(left), Value::String(right)) => left.cmp(right),
            _ => Ordering::Equal,
        };
        if self.descending {
            ordering.reverse()
        } else {
            ordering
        }
    }
}

/// `_count` with the query of its body.
pub(crate) fn run_count(
    body: &Value,
    storage: &Storage,
    indices: &Indices,
) -> Result<Value, ApiError> {
    let query = match body.get("query") {
        Some(query) => Query::parse(query, timestamp::now_ms())?,
        None => Query::All,
    };
    let names = indices.resolve(storage)?;
    let count = names
        .iter()
        .filter_map(|name| storage.index(name))
        .flat_map(|index| index.documents())
        .filter(|document| query.meets(document))
        .count();
    Ok(json!({"count": count, "_shards": shards(names.len())}))
}

pub(crate) fn shards(count: usize) -> Value {
    json!({"total": count, "successful": count, "skipped": 0, "failed": 0})
}

fn count(name: &str, value: &Value) -> Result<usize, ApiError> {
    value
        .as_u64()
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| {
            ApiError::illegal_argument(format!(
                "[{name}] parameter cannot be negative, found [{value}]"
            ))
        })
}

fn parse_sort(sort: &Value) -> Result<Vec<SortKey>, ApiError> {
    match sort {
        Value::Array(keys) => keys.iter().map(parse_sort_key).collect(),
        key => Ok(vec![parse_sort_key(key)?]),
    }
}

fn parse_sort_key(key: &Value) -> Result<SortKey, ApiError> {
    if let Some(field) = key.as_str() {
        return Ok(SortKey {
            field: field.to_owned(),
            descending: false,
        });
    }
    let entry = key.as_object().and_then(|fields| fields.iter().next());
    let Some((field, options)) = entry else {
        return Err(ApiError::parsing("malformed sort format"));
    };
    let order = options
        .get("order")
        .unwrap_or(options)
        .as_str()
        .unwrap_or("asc");
    match order {
        "asc" | "desc" => Ok(SortKey {
            field: field.clone(),
            descending: order == "desc",
        }),
        other => Err(ApiError::illegal_argument(format!(
            "No enum constant for sort order [{other}]"
        ))),
    }
}
