//! The state machine of one alert instance. A classic condition has no labels, so a rule with one has one instance.

use super::{Evaluation, ExecErrState, NoDataState, Rule};
use std::fmt;

/// As Grafana names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateName {
    Normal,
    Pending,
    Alerting,
    NoData,
    Error,
}

/// Why an instance is in a state that its value alone does not explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NoData,
    Error,
}

/// Printed as Grafana prints it: `Pending`, `Alerting (NoData)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub name: StateName,
    pub reason: Option<Reason>,
    /// The evaluation that brought the state.
    pub since_ms: i64,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        match self.reason {
            Some(reason) => write!(f, " ({reason:?})"),
            None => Ok(()),
        }
    }
}

/// Starts Normal and takes one evaluation after the other.
#[derive(Debug, Clone)]
pub struct StateMachine {
    pending_period_ms: i64,
    no_data_state: NoDataState,
    exec_err_state: ExecErrState,
    state: State,
}

impl StateMachine {
    /// The machine of `rule`, Normal since `start_ms`.
    pub fn new(rule: &Rule, start_ms: i64) -> Self {
        Self {
            pending_period_ms: rule.pending_period_ms,
            no_data_state: rule.no_data_state,
            exec_err_state: rule.exec_err_state,
            state: State {
                name: StateName::Normal,
                reason: None,
                since_ms: start_ms,
            },
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// The state after the evaluation made at `at_ms`. No data and errors that count as alerting go the way of a breach, pending period
    /// included; a pending period goes on when only its reason changes (Grafana 10.1 began a new one).
    pub fn step(&mut self, at_ms: i64, evaluation: &Evaluation) -> State {
        match evaluation {
            Evaluation::Normal { .. } => self.enter(StateName::Normal, None, at_ms),
            Evaluation::Alerting { .. } => self.breach(None, at_ms),
            Evaluation::NoData => match self.no_data_state {
                NoDataState::Alerting => self.breach(Some(Reason::NoData), at_ms),
                NoDataState::NoData => self.enter(StateName::NoData, None, at_ms),
                NoDataState::Ok => self.enter(StateName::Normal, Some(Reason::NoData), at_ms),
            },
            Evaluation::Error { .. } => match self.exec_err_state {
                ExecErrState::Alerting => self.breach(Some(Reason::Error), at_ms),
                ExecErrState::Error => self.enter(StateName::Error, None, at_ms),
                ExecErrState::Ok => self.enter(StateName::Normal, Some(Reason::Error), at_ms),
            },
        }
        self.state
    }

    fn breach(&mut self, reason: Option<Reason>, at_ms: i64) {
        let name = match self.state.name {
            StateName::Alerting => StateName::Alerting,
            StateName::Pending if at_ms - self.state.since_ms < self.pending_period_ms => {
                StateName::Pending
            }
            StateName::Pending => StateName::Alerting,
            _ if self.pending_period_ms > 0 => StateName::Pending,
            _ => StateName::Alerting,
        };
        self.enter(name, reason, at_ms);
    }

    fn enter(&mut self, name: StateName, reason: Option<Reason>, at_ms: i64) {
        let since_ms = if name == self.state.name {
            self.state.since_ms
        } else {
            at_ms
        };
        self.state = State {
            name,
            reason,
            since_ms,
        };
    }
}
