//! What a run found, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::judge::Report;

use super::schedule::Lane;

#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Faults that were made.
    pub faults: BTreeMap<(Lane, &'static str), usize>,
    pub visits: u64,
    /// Of reduced records and dead letters; `None` where it did not come to that.
    pub reduced: Option<Report>,
    /// Of window documents.
    pub windows: Option<Report>,
    /// Hosts whose account of source records balances with nothing pending.
    pub balanced_hosts: usize,
    /// The longest time without a commit, per pipeline.
    pub stalls: Vec<(&'static str, Duration)>,
    /// From the last fault until everything was committed and stored.
    pub settled_in: Duration,
    /// What must not be.
    pub findings: Vec<String>,
}

impl Outcome {
    pub fn fault_count(&self) -> usize {
        self.faults.values().sum()
    }

    /// Everything was judged and nothing was wrong.
    pub fn is_clean(&self) -> bool {
        let reports = [&self.reduced, &self.windows];
        let mut reports = reports.into_iter();
        let are_clean = reports.all(|report| {
            report
                .as_ref()
                .is_some_and(|report| report.differences().is_empty())
        });
        are_clean && self.findings.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} faults", self.seed, self.fault_count())?;
        for ((lane, kind), number) in &self.faults {
            writeln!(f, "  {number:>4}  {} {kind}", lane.name())?;
        }
        writeln!(f, "visits written: {}", self.visits)?;
        if let Some(report) = &self.reduced {
            let (lost, doubled) = (report.counted("lost"), report.counted("doubled"));
            writeln!(f, "lost: {lost}, doubled: {doubled}")?;
            writeln!(f, "reduced: {report}")?;
        }
        if let Some(report) = &self.windows {
            writeln!(f, "windows: {report}")?;
        }
        writeln!(f, "hosts whose account balances: {}", self.balanced_hosts)?;
        for (pipeline, stall) in &self.stalls {
            let seconds = stall.as_secs_f64();
            writeln!(f, "longest stall of {pipeline}: {seconds:.0} s")?;
        }
        let seconds = self.settled_in.as_secs_f64();
        writeln!(f, "settled in {seconds:.0} s after the last fault")?;
        for finding in &self.findings {
            writeln!(f, "FINDING: {finding}")?;
        }
        let verdict = if self.is_clean() { "clean" } else { "FAILED" };
        write!(
            f,
            "{verdict}: WEIR_CHAOS_SEED={} makes the same schedule",
            self.seed
        )
    }
}
