//! What a sitting of the sink's benchmark measured, for people.

use std::fmt;
use std::time::Duration;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// A loop that sends ready bodies and asks of an answer only whether it names errors.
    Bare,
    /// The sink, from records to verdicts.
    Sink,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct BenchRun {
    pub contestant: Contestant,
    pub flights: usize,
    pub elapsed: Duration,
    /// Of this process; the server is another one.
    pub cpu: Duration,
    /// Of the server meanwhile, in seconds.
    pub server_cpu_s: Option<f64>,
    pub records: usize,
}

impl BenchRun {
    pub fn documents_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    pub fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }

    /// Of client and server together.
    pub fn all_cpu_seconds_per_million(&self) -> Option<f64> {
        let server = self.server_cpu_s? * 1e6 / self.records as f64;
        Some(self.cpu_seconds_per_million() + server)
    }
}

/// All runs of one sitting, in their order.
#[derive(Debug, Default)]
pub struct BenchReport {
    pub runs: Vec<BenchRun>,
}

/// Middle of equal runs, and largest over smallest: what noise alone makes of one thing.
struct Spread {
    median: f64,
    noise: f64,
}

impl BenchReport {
    fn spread(
        &self,
        contestant: Contestant,
        flights: usize,
        figure: impl Fn(&BenchRun) -> Option<f64>,
    ) -> Option<Spread> {
        let equal = |run: &&BenchRun| run.contestant == contestant && run.flights == flights;
        let mut figures: Vec<f64> = self.runs.iter().filter(equal).filter_map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        let upper = figures.get(figures.len() / 2)?;
        let lower = figures.get((figures.len() - 1) / 2)?;
        Some(Spread {
            median: f64::midpoint(*lower, *upper),
            noise: figures.last()? / figures.first()?,
        })
    }

    fn compare(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        flights: usize,
        figure: fn(&BenchRun) -> Option<f64>,
    ) -> fmt::Result {
        let of = |contestant| self.spread(contestant, flights, figure);
        let (Some(sink), Some(bare)) = (of(Contestant::Sink), of(Contestant::Bare)) else {
            return Ok(());
        };
        writeln!(
            f,
            "| {flights} | {name} | {:.2} | {:.2} | {:.2} | {:.2} / {:.2} |",
            sink.median,
            bare.median,
            sink.median / bare.median,
            sink.noise,
            bare.noise
        )
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(
                f,
                "{:?} with {} flights: {:.0} documents/s, {:.2} CPU s per million",
                run.contestant,
                run.flights,
                run.documents_per_second(),
                run.cpu_seconds_per_million()
            )?;
        }
        writeln!(
            f,
            "| flights | medians of | sink | bare | sink / bare | equal runs, largest / smallest |\n|---|---|---|---|---|---|"
        )?;
        let mut flights: Vec<usize> = self.runs.iter().map(|run| run.flights).collect();
        flights.sort_unstable();
        flights.dedup();
        for flights in flights {
            self.compare(f, "1,000 documents/s", flights, |run| {
                Some(run.documents_per_second() / 1e3)
            })?;
            self.compare(f, "client's CPU s per million", flights, |run| {
                Some(run.cpu_seconds_per_million())
            })?;
            let all = BenchRun::all_cpu_seconds_per_million;
            self.compare(f, "client's and server's", flights, all)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(contestant: Contestant, cpu_ms: u64, server_cpu_s: Option<f64>) -> BenchRun {
        BenchRun {
            contestant,
            flights: 4,
            elapsed: Duration::from_secs(2),
            cpu: Duration::from_millis(cpu_ms),
            server_cpu_s,
            records: 500_000,
        }
    }

    #[test]
    fn medians_their_ratio_and_the_noise() {
        let bare = [1_000, 1_500, 2_000].map(|ms| run(Contestant::Bare, ms, Some(9.0)));
        let sink = [3_000, 2_000].map(|ms| run(Contestant::Sink, ms, Some(9.0)));
        let runs = bare.into_iter().chain(sink).collect();
        let text = BenchReport { runs }.to_string();
        assert!(
            text.contains("| 4 | client's CPU s per million | 5.00 | 3.00 | 1.67 | 1.50 / 2.00 |"),
            "{text}"
        );
        assert!(
            text.contains("| 4 | client's and server's | 23.00 | 21.00 | 1.10 |"),
            "{text}"
        );
    }

    #[test]
    fn a_server_of_unknown_cost_has_no_row() {
        let runs = [Contestant::Bare, Contestant::Sink].map(|who| run(who, 1, None));
        let text = BenchReport { runs: runs.into() }.to_string();
        assert!(
            text.contains("documents/s") && !text.contains("server's"),
            "{text}"
        );
    }
}
