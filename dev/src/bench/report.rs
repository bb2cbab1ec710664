//! A table for people, a JSON object for machines.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::contestant::{Contestant, Measured};

/// All runs of one sitting, in their order.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub records: usize,
    pub runs: Vec<Measured>,
}

impl Summary {
    /// The median CPU cost of `who`, and its spread (largest over smallest).
    fn cost(&self, who: Contestant) -> Option<(f64, f64)> {
        let mut costs: Vec<f64> = self
            .runs
            .iter()
            .filter(|run| run.who == who)
            .map(|run| run.cpu_seconds_per_million)
            .collect();
        costs.sort_unstable_by(f64::total_cmp);
        let (first, last) = (costs.first()?, costs.last()?);
        let upper = costs.get(costs.len() / 2)?;
        let lower = costs.get((costs.len() - 1) / 2)?;
        Some((f64::midpoint(*lower, *upper), last / first))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records from a topic of 2 partitions, on one Kafka beside it",
            self.records
        )?;
        writeln!(
            f,
            "{:<18} {:>9} {:>10} {:>9} {:>9} {:>8} {:>8}",
            "who", "CPU s/M", "records/s", "CPU s all", "RSS MiB", "ready s", "first s"
        )?;
        for run in &self.runs {
            writeln!(
                f,
                "{:<18} {:>9.2} {:>10.0} {:>9.2} {:>9.0} {:>8.2} {:>8.2}",
                name(run.who),
                run.cpu_seconds_per_million,
                run.source_records_per_second,
                run.total_cpu_seconds,
                run.peak_rss_mib,
                run.ready_s,
                run.first_record_s,
            )?;
        }
        let bare = self.cost(Contestant::BareLoop);
        for who in [
            Contestant::BareLoop,
            Contestant::WeirAtLeastOnce,
            Contestant::WeirExactlyOnce,
        ] {
            let Some((median, spread)) = self.cost(who) else {
                continue;
            };
            let mut line = format!("{:<18} median {median:.2} CPU s/M, ", name(who));
            write!(line, "largest/smallest of equal runs {spread:.2}")?;
            if let Some((yardstick, _)) = bare
                && who != Contestant::BareLoop
            {
                write!(line, ", {:.2} times the bare loop", median / yardstick)?;
            }
            if let Some((plain, _)) = self.cost(Contestant::WeirAtLeastOnce)
                && who == Contestant::WeirExactlyOnce
            {
                write!(line, ", {:.2} times at least once", median / plain)?;
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn name(who: Contestant) -> &'static str {
    match who {
        Contestant::BareLoop => "bare rdkafka loop",
        Contestant::WeirExactlyOnce => "weir exactly once",
        Contestant::WeirAtLeastOnce => "weir at least once",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(who: Contestant, cost: f64) -> Measured {
        Measured {
            who,
            cpu_seconds_per_million: cost,
            source_records_per_second: 1.0,
            total_cpu_seconds: 1.0,
            peak_rss_mib: 1.0,
            ready_s: 1.0,
            first_record_s: 1.0,
            arrived_records: 1,
        }
    }

    #[test]
    fn medians_and_their_ratio() {
        let runs = [4.0, 3.0, 5.0]
            .map(|cost| run(Contestant::BareLoop, cost))
            .into_iter()
            .chain([5.0, 7.0].map(|cost| run(Contestant::WeirAtLeastOnce, cost)))
            .collect();
        let summary = Summary { records: 1, runs };
        assert_eq!(summary.cost(Contestant::BareLoop), Some((4.0, 5.0 / 3.0)));
        assert_eq!(summary.cost(Contestant::WeirAtLeastOnce), Some((6.0, 1.4)));
        assert_eq!(summary.cost(Contestant::WeirExactlyOnce), None);
        assert!(summary.to_string().contains("1.50 times the bare loop"));
        let mut summary = summary;
        summary.runs.push(run(Contestant::WeirExactlyOnce, 9.0));
        assert!(summary.to_string().contains("1.50 times at least once"));
    }
}
