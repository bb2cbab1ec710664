//! Grafana's alerting without Grafana: reads the provisioned files and evaluates the rule in them as Grafana's backend does.
//!
//! Nothing of the rule is repeated here. [`Rule::load`] takes query, conditions, interval, pending period and the mapping of no data and
//! errors out of the file that Grafana itself reads; [`Rule::evaluate`] sends the query to a real Elasticsearch and applies the classic
//! condition; [`StateMachine`] turns the results into Normal, Pending and Alerting.
//!
//! What it follows: the rules of a real Grafana 10.1.5 and 9.5.7 run (the timings are unit tests of [`state`]), and for details the
//! documentation of file provisioning, of the Elasticsearch data source and of classic conditions. What it refuses: anything the files
//! do not need, by name, so that a changed rule is never half evaluated.
//!
//! Times are milliseconds since the Unix epoch, UTC.

mod conditions;
mod dashboard;
mod duration;
mod error;
mod files;
mod query;
mod rule;
mod search;
mod state;

pub use conditions::{ClassicConditions, Evaluator, Outcome, Reducer};
pub use dashboard::{Dashboard, Panel, Threshold};
pub use duration::parse_duration_ms;
pub use error::ProvisioningError;
pub use files::{DataSource, ExecErrState, NoDataState, Provider, Provisioning, RuleGroup};
pub use query::{ElasticsearchQuery, Point, Series};
pub use rule::{Evaluation, Observation, Rule};
pub use search::{ElasticsearchSearch, Search, SearchError};
pub use state::{Reason, State, StateMachine, StateName};

#[cfg(test)]
mod tests;
