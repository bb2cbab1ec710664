//! Queries: the few clauses that the dashboard, the alert rule and a person at a terminal send.

use serde_json::Value;

use crate::error::ApiError;
use crate::storage::Document;
use crate::timestamp;

/// A query, checked before any document is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Query {
    All,
    Nothing,
    Ids(Vec<String>),
    Term {
        field: String,
        value: Value,
    },
    Exists {
        field: String,
    },
    Range {
        field: String,
        bounds: Vec<(Comparison, Bound)>,
    },
    /// Every clause of the first list, none of the second.
    Bool {
        all: Vec<Query>,
        none: Vec<Query>,
        any: Vec<Query>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    TimestampMs(i64),
    Number(f64),
}

impl Query {
    pub fn parse(query: &Value, now_ms: i64) -> Result<Self, ApiError> {
        let Some(fields) = query.as_object() else {
            return Err(ApiError::parsing(
                "[query] malformed, expected START_OBJECT",
            ));
        };
        let mut entries = fields.iter();
        let (Some((name, body)), None) = (entries.next(), entries.next()) else {
            return Err(ApiError::parsing("[query] malformed, expected one clause"));
        };
        match name.as_str() {
            "match_all" => Ok(Self::All),
            "match_none" => Ok(Self::Nothing),
            "query_string" => parse_query_string(body),
            "range" => parse_range(body, now_ms),
            "term" => parse_term(body),
            "ids" => parse_ids(body),
            "exists" => match body.get("field").and_then(Value::as_str) {
                Some(field) => Ok(Self::Exists {
                    field: field.to_owned(),
                }),
                None => Err(ApiError::parsing(
                    "[exists] must be provided with a [field]",
                )),
            },
            "bool" => parse_bool(body, now_ms),
            other => Err(ApiError::parsing(format!("unknown query [{other}]"))),
        }
    }

    pub fn meets(&self, document: &Document) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Ids(ids) => ids.contains(&document.id),
            Self::Term { field, value } if field == "_id" => value.as_str() == Some(&document.id),
            Self::Term { field, value } => match (document.field(field), value) {
                (Some(Value::Number(found)), Value::Number(wanted)) => {
                    found.as_f64() == wanted.as_f64()
                }
                (found, wanted) => found.as_ref() == Some(wanted),
            },
            Self::Exists { field } => document.field(field).is_some_and(|value| !value.is_null()),
            Self::Range { field, bounds } => bounds
                .iter()
                .all(|(comparison, bound)| bound.holds(*comparison, document, field)),
            Self::Bool { all, none, any } => {
                all.iter().all(|query| query.meets(document))
                    && !none.iter().any(|query| query.meets(document))
                    && (any.is_empty() || any.iter().any(|query| query.meets(document)))
            }
        }
    }
}

impl Bound {
    fn holds(self, comparison: Comparison, document: &Document, field: &str) -> bool {
        let ordering = match self {
            Self::TimestampMs(bound) => {
                document.timestamp_ms.map(|timestamp| timestamp.cmp(&bound))
            }
            Self::Number(bound) => document
                .field(field)
                .and_then(|value| value.as_f64()?.partial_cmp(&bound)),
        };
        ordering.is_some_and(|ordering| match comparison {
            Comparison::Above => ordering.is_gt(),
            Comparison::AtLeast => ordering.is_ge(),
            Comparison::Below => ordering.is_lt(),
            Comparison::AtMost => ordering.is_le(),
        })
    }
}

/// Only the query that selects everything: full text is out of this store's reach.
fn parse_query_string(body: &Value) -> Result<Query, ApiError> {
    match body.get("query").and_then(Value::as_str) {
        Some("*" | "*:*") => Ok(Query::All),
        Some(other) => Err(ApiError::parsing(format!(
            "[query_string] of this document store takes * only, found [{other}]"
        ))),
        None => Err(ApiError::parsing(
            "[query_string] must be provided with a [query]",
        )),
    }
}

fn parse_range(body: &Value, now_ms: i64) -> Result<Query, ApiError> {
    let Some((field, conditions)) = single_entry(body) else {
        return Err(ApiError::parsing("[range] query malformed, no field name"));
    };
    let Some(conditions) = conditions.as_object() else {
        return Err(ApiError::parsing(
            "[range] query malformed, no start_object",
        ));
    };
    let mut bounds = Vec::new();
    for (name, value) in conditions {
        let comparison = match name.as_str() {
            "gt" => Comparison::Above,
            "gte" => Comparison::AtLeast,
            "lt" => Comparison::Below,
            "lte" => Comparison::AtMost,
            "format" | "time_zone" | "boost" | "relation" => continue,
            other => {
                return Err(ApiError::parsing(format!(
                    "[range] query does not support [{other}]"
                )));
            }
        };
        if !value.is_null() {
            bounds.push((comparison, parse_bound(field, value, now_ms)?));
        }
    }
    Ok(Query::Range {
        field: field.clone(),
        bounds,
    })
}

fn parse_bound(field: &str, value: &Value, now_ms: i64) -> Result<Bound, ApiError> {
    let bound = if field == "@timestamp" {
        timestamp::parse_bound_ms(value, now_ms).map(Bound::TimestampMs)
    } else {
        value.as_f64().map(Bound::Number)
    };
    bound.ok_or_else(|| {
        ApiError::new(
            400,
            "parse_exception",
            format!("failed to parse [{value}] as a bound of [{field}]"),
        )
    })
}

fn parse_term(body: &Value) -> Result<Query, ApiError> {
    let Some((field, value)) = single_entry(body) else {
        return Err(ApiError::parsing("[term] query malformed, no field name"));
    };
    Ok(Query::Term {
        field: field.clone(),
        value: value.get("value").unwrap_or(value).clone(),
    })
}

fn parse_ids(body: &Value) -> Result<Query, ApiError> {
    let Some(values) = body.get("values").and_then(Value::as_array) else {
        return Err(ApiError::parsing("[ids] requires [values]"));
    };
    Ok(Query::Ids(
        values
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    ))
}

fn parse_bool(body: &Value, now_ms: i64) -> Result<Query, ApiError> {
    let Some(groups) = body.as_object() else {
        return Err(ApiError::parsing("[bool] query malformed, no start_object"));
    };
    let (mut all, mut none, mut any) = (Vec::new(), Vec::new(), Vec::new());
    for (name, clauses) in groups {
        let group = match name.as_str() {
            "filter" | "must" => &mut all,
            "must_not" => &mut none,
            "should" => &mut any,
            "boost" | "minimum_should_match" => continue,
            other => {
                return Err(ApiError::parsing(format!(
                    "[bool] query does not support [{other}]"
                )));
            }
        };
        match clauses {
            Value::Array(clauses) => {
                for clause in clauses {
                    group.push(Query::parse(clause, now_ms)?);
                }
            }
            clause => group.push(Query::parse(clause, now_ms)?),
        }
    }
    // Beside a required clause, `should` only scores.
    if !all.is_empty() {
        any.clear();
    }
    Ok(Query::Bool { all, none, any })
}

/// The one field of an object that has exactly one.
fn single_entry(body: &Value) -> Option<(&String, &Value)> {
    let mut entries = body.as_object()?.iter();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Some(entry),
        _ => None,
    }
}
