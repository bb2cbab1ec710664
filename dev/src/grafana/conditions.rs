//! Expression B: Grafana's classic conditions. A series is reduced to one number, the number is compared, the comparisons are joined.

use super::Series;
use super::query::DataSourceRef;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An expression of type `classic_conditions`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassicConditions {
    pub ref_id: String,
    #[serde(rename = "type")]
    pub kind: ExpressionKind,
    pub datasource: Option<DataSourceRef>,
    pub conditions: Vec<Condition>,
    pub interval_ms: Option<u64>,
    pub max_data_points: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpressionKind {
    ClassicConditions,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    pub query: ConditionQuery,
    pub reducer: ConditionReducer,
    /// Joins this condition to those before it; the first one's has no effect but must be there.
    pub operator: ConditionOperator,
    pub evaluator: Evaluator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionKind {
    Query,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionQuery {
    /// The refId of the query, alone.
    pub params: [String; 1],
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionReducer {
    #[serde(rename = "type")]
    pub kind: Reducer,
    /// Unused by Grafana, written by its editor.
    #[serde(default)]
    pub params: [(); 0],
}

/// Every reducer leaves null points out, `count` excepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reducer {
    Last,
    Max,
    Min,
    Avg,
    Sum,
    Count,
}

impl Reducer {
    /// The one number, or `None` where nothing but nulls is there.
    pub fn reduce(self, series: &Series) -> Option<f64> {
        let values = || {
            series
                .iter()
                .filter_map(|point| point.value)
                .filter(|value| !value.is_nan())
        };
        let present = values().count();
        match self {
            Self::Count => (!series.is_empty()).then_some(series.len() as f64),
            _ if present == 0 => None,
            Self::Last => values().next_back(),
            Self::Max => values().reduce(f64::max),
            Self::Min => values().reduce(f64::min),
            Self::Sum => Some(values().sum()),
            Self::Avg => Some(values().sum::<f64>() / present as f64),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionOperator {
    #[serde(rename = "type")]
    pub kind: OperatorKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperatorKind {
    And,
    Or,
}

/// The comparison; bounds are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(
    tag = "type",
    content = "params",
    rename_all = "snake_case",
    deny_unknown_fields
)]
pub enum Evaluator {
    Gt([f64; 1]),
    Lt([f64; 1]),
    WithinRange([f64; 2]),
    OutsideRange([f64; 2]),
    NoValue([f64; 0]),
}

impl Evaluator {
    fn holds(self, value: Option<f64>) -> bool {
        match (self, value) {
            (Self::NoValue([]), value) => value.is_none(),
            (_, None) => false,
            (Self::Gt([bound]), Some(value)) => value > bound,
            (Self::Lt([bound]), Some(value)) => value < bound,
            (Self::WithinRange([low, high]), Some(value)) => {
                value > low.min(high) && value < low.max(high)
            }
            (Self::OutsideRange([low, high]), Some(value)) => {
                value < low.min(high) || value > low.max(high)
            }
        }
    }
}

/// What the conditions say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Firing,
    Quiet,
    NoData,
}

impl ClassicConditions {
    /// Joins the conditions from the first to the last. `series` has an entry per query; a `None` in it is a query without any series.
    pub fn evaluate(&self, series: &BTreeMap<String, Option<Series>>) -> Outcome {
        let mut joined: Option<(bool, bool)> = None;
        for condition in &self.conditions {
            let [ref_id] = &condition.query.params;
            let value = series
                .get(ref_id)
                .and_then(Option::as_ref)
                .and_then(|series| condition.reducer.kind.reduce(series));
            let firing = condition.evaluator.holds(value);
            let missing = value.is_none() && !firing;
            joined = Some(match (joined, condition.operator.kind) {
                (None, _) => (firing, missing),
                (Some(before), OperatorKind::And) => (before.0 && firing, before.1 && missing),
                (Some(before), OperatorKind::Or) => (before.0 || firing, before.1 || missing),
            });
        }
        match joined {
            None | Some((_, true)) => Outcome::NoData,
            Some((true, false)) => Outcome::Firing,
            Some((false, false)) => Outcome::Quiet,
        }
    }
}
