//! Chaos: the reference job under load while everything around it fails, by a schedule that a seed decides; then the judge.
//!
//! * [`schedule`] turns a seed into faults. It knows no process and no clock, so one seed is one schedule.
//! * `hosts`, `servers` and `network` are what faults happen to; each takes its own faults one after the other (a lane).
//! * `load` writes visits past all faults; `progress` watches what is committed.
//! * `run` puts them together, waits until everything is settled, and judges; [`Outcome`] is what it found.

mod hosts;
mod journal;
mod load;
mod network;
mod outcome;
mod progress;
mod run;
mod schedule;
mod servers;
mod stage;

pub use outcome::Outcome;
pub use run::run;
pub use schedule::{Event, Fault, Lane, Pace, schedule};

use std::time::Duration;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides the schedule of faults.
    pub seed: u64,
    /// How long faults go on; settling and judging come on top.
    pub length: Duration,
    pub visits_per_second: u32,
    pub pace: Pace,
    /// An Elasticsearch that runs already and that is not to be restarted; one of its own if `None`.
    pub elasticsearch: Option<String>,
    /// librdkafka's `transaction.timeout.ms` of the hosts: how long a killed host holds its successor up.
    pub transaction_timeout_ms: u32,
    /// How long everything may take to be committed and stored after the last fault.
    pub settle_timeout: Duration,
}
