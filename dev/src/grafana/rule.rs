use super::conditions::{ClassicConditions, Outcome};
use super::files::{
    DataSource, ExecErrState, NoDataState, Provisioning, QueryEntry, RuleEntry, RuleGroup,
};
use super::{
    ElasticsearchQuery, ProvisioningError, Search, Series, State, StateMachine, parse_duration_ms,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

/// Grafana's scheduler ticks every 10 s and refuses an interval that is no multiple of it.
const SCHEDULER_TICK_MS: i64 = 10_000;

/// The data source uid that marks an expression.
const EXPRESSION_UID: &str = "__expr__";

/// A provisioned alert rule, checked, with the data sources of its queries looked up.
#[derive(Debug, Clone)]
pub struct Rule {
    pub uid: String,
    pub title: String,
    pub folder: String,
    pub interval_ms: i64,
    /// `for` in the file.
    pub pending_period_ms: i64,
    pub no_data_state: NoDataState,
    pub exec_err_state: ExecErrState,
    pub dashboard_uid: Option<String>,
    pub panel_id: Option<i64>,
    pub queries: Vec<RuleQuery>,
    pub condition: ClassicConditions,
}

/// A query of a rule with the index it goes to and the range it asks for.
#[derive(Debug, Clone)]
pub struct RuleQuery {
    pub index: String,
    /// The range is [now - from_ms, now - to_ms].
    pub from_ms: i64,
    pub to_ms: i64,
    pub query: ElasticsearchQuery,
}

/// What one evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluation {
    /// The condition does not hold.
    Normal {
        series: BTreeMap<String, Option<Series>>,
    },
    /// The condition holds.
    Alerting {
        series: BTreeMap<String, Option<Series>>,
    },
    /// There is nothing to judge.
    NoData,
    /// A query failed.
    Error { message: String },
}

/// One evaluation of a [`Rule::timeline`].
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub at_ms: i64,
    pub evaluation: Evaluation,
    pub state: State,
}

impl Rule {
    /// The rule `uid` of a provisioning folder, the one that holds `alerting/` and `datasources/`.
    pub fn load(folder: &Path, uid: &str) -> Result<Self, ProvisioningError> {
        let provisioning = Provisioning::load(folder)?;
        let entries = provisioning
            .groups
            .iter()
            .flat_map(|(file, group)| group.rules.iter().map(move |rule| (file, group, rule)));
        let Some((file, group, entry)) = entries.into_iter().find(|(_, _, rule)| rule.uid == uid)
        else {
            return Err(ProvisioningError::new(
                "grafana.rule.unknown",
                &folder.join("alerting"),
                format!("No file holds a rule with the uid `{uid}`."),
                "Name a uid that a file holds.",
            ));
        };
        let sources: Vec<&DataSource> = provisioning
            .data_sources
            .iter()
            .map(|(_, source)| source)
            .collect();
        Self::resolve(file, group, entry, &sources)
    }

    fn resolve(
        file: &Path,
        group: &RuleGroup,
        entry: &RuleEntry,
        sources: &[&DataSource],
    ) -> Result<Self, ProvisioningError> {
        let refuse = |cause: String, cure: &str| {
            ProvisioningError::new("grafana.rule.wrong", file, cause, cure)
        };
        let interval_ms = parse_duration_ms(&group.interval)
            .filter(|ms| *ms > 0 && ms % SCHEDULER_TICK_MS == 0)
            .ok_or_else(|| {
                refuse(
                    format!("The interval `{}` is no multiple of 10s.", group.interval),
                    "Write for instance `1m`.",
                )
            })?;
        let pending_period_ms = parse_duration_ms(&entry.pending_period).ok_or_else(|| {
            refuse(
                format!(
                    "`for: {}` is no duration with a unit.",
                    entry.pending_period
                ),
                "Write for instance `2m`.",
            )
        })?;
        if group.folder.trim().is_empty() || group.name.trim().is_empty() {
            return Err(refuse(
                "The group has no folder or no name.".to_owned(),
                "Give both.",
            ));
        }
        if entry.dashboard_uid.is_some() != entry.panel_id.is_some() {
            return Err(refuse(
                "dashboardUid and panelId do not stand together.".to_owned(),
                "Give both or neither.",
            ));
        }
        let mut queries = Vec::new();
        for query in entry
            .data
            .iter()
            .filter(|query| query.datasource_uid != EXPRESSION_UID)
        {
            queries.push(resolve_query(file, query, sources)?);
        }
        Ok(Self {
            uid: entry.uid.clone(),
            title: entry.title.clone(),
            folder: group.folder.clone(),
            interval_ms,
            pending_period_ms,
            no_data_state: entry.no_data_state,
            exec_err_state: entry.exec_err_state,
            dashboard_uid: entry.dashboard_uid.clone(),
            panel_id: entry.panel_id,
            condition: resolve_condition(file, entry, &queries)?,
            queries,
        })
    }

    /// Evaluates the rule as it stands at `now_ms`: sends every query, applies the condition.
    pub fn evaluate(&self, now_ms: i64, search: &dyn Search) -> Evaluation {
        let mut series = BTreeMap::new();
        for query in &self.queries {
            let (header, body) =
                query
                    .query
                    .msearch(&query.index, now_ms - query.from_ms, now_ms - query.to_ms);
            let answer = search
                .msearch(&header, &body)
                .map_err(|error| error.to_string());
            match answer.and_then(|response| query.query.series(&response)) {
                Ok(found) => series.insert(query.query.ref_id.clone(), found),
                Err(message) => return Evaluation::Error { message },
            };
        }
        match self.condition.evaluate(&series) {
            Outcome::Firing => Evaluation::Alerting { series },
            Outcome::Quiet => Evaluation::Normal { series },
            Outcome::NoData => Evaluation::NoData,
        }
    }

    /// The first evaluation at or after `at_ms`: Grafana evaluates at whole multiples of the interval.
    pub fn next_evaluation_ms(&self, at_ms: i64) -> i64 {
        at_ms
            .saturating_add(self.interval_ms - 1)
            .div_euclid(self.interval_ms)
            * self.interval_ms
    }

    /// Evaluates at every multiple of the interval in `[from_ms, to_ms]`, from Normal on. `before` runs before each evaluation with its
    /// time; a test lets documents arrive there.
    pub fn timeline(
        &self,
        from_ms: i64,
        to_ms: i64,
        search: &dyn Search,
        mut before: impl FnMut(i64),
    ) -> Vec<Observation> {
        let mut machine = StateMachine::new(self, from_ms);
        let mut observations = Vec::new();
        let mut at_ms = self.next_evaluation_ms(from_ms);
        while at_ms <= to_ms {
            before(at_ms);
            let evaluation = self.evaluate(at_ms, search);
            let state = machine.step(at_ms, &evaluation);
            observations.push(Observation {
                at_ms,
                evaluation,
                state,
            });
            at_ms += self.interval_ms;
        }
        observations
    }
}

fn resolve_query(
    file: &Path,
    entry: &QueryEntry,
    sources: &[&DataSource],
) -> Result<RuleQuery, ProvisioningError> {
    let refuse =
        |cause: String, cure: &str| ProvisioningError::new("grafana.rule.query", file, cause, cure);
    let source = sources
        .iter()
        .find(|source| source.uid == entry.datasource_uid)
        .ok_or_else(|| {
            refuse(
                format!(
                    "Query {} names the unknown data source `{}`.",
                    entry.ref_id, entry.datasource_uid
                ),
                "Name the uid of a provisioned one.",
            )
        })?;
    let query: ElasticsearchQuery = model(file, entry)?;
    let range = entry.relative_time_range;
    if range.from <= range.to {
        return Err(refuse(
            format!("The range of query {} is empty.", entry.ref_id),
            "Let `from` be more seconds ago than `to`.",
        ));
    }
    if query.ref_id != entry.ref_id {
        return Err(refuse(
            format!(
                "The model of query {} has the refId {}.",
                entry.ref_id, query.ref_id
            ),
            "Write the same refId twice.",
        ));
    }
    if let Some(fault) = query.faults().into_iter().next() {
        return Err(refuse(fault, "Correct the model of the query."));
    }
    Ok(RuleQuery {
        index: source.json_data.index.clone(),
        from_ms: i64::from(range.from) * 1_000,
        to_ms: i64::from(range.to) * 1_000,
        query,
    })
}

fn resolve_condition(
    file: &Path,
    entry: &RuleEntry,
    queries: &[RuleQuery],
) -> Result<ClassicConditions, ProvisioningError> {
    let refuse = |cause: String, cure: &str| {
        ProvisioningError::new("grafana.rule.condition", file, cause, cure)
    };
    let expression = entry
        .data
        .iter()
        .find(|query| query.ref_id == entry.condition)
        .ok_or_else(|| {
            refuse(
                format!("The condition {} is no refId of the rule.", entry.condition),
                "Name the refId of the expression.",
            )
        })?;
    if expression.datasource_uid != EXPRESSION_UID {
        return Err(refuse(
            format!("The condition {} is a query.", entry.condition),
            "Let it name an expression.",
        ));
    }
    let conditions: ClassicConditions = model(file, expression)?;
    if conditions.conditions.is_empty() {
        return Err(refuse(
            format!("Expression {} has no condition.", entry.condition),
            "Give at least one.",
        ));
    }
    for condition in &conditions.conditions {
        let [ref_id] = &condition.query.params;
        if !queries.iter().any(|query| query.query.ref_id == *ref_id) {
            return Err(refuse(
                format!("A condition asks for query {ref_id}, which is not there."),
                "Name the refId of a query.",
            ));
        }
    }
    Ok(conditions)
}

fn model<T: DeserializeOwned>(file: &Path, entry: &QueryEntry) -> Result<T, ProvisioningError> {
    serde_json::from_value(entry.model.clone()).map_err(|error| {
        ProvisioningError::new(
            "grafana.rule.model",
            file,
            format!(
                "The model of {} is not what Grafana documents: {error}.",
                entry.ref_id
            ),
            "Correct the named key; the names and values are case-sensitive.",
        )
    })
}
