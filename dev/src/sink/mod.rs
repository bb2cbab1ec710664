//! The Elasticsearch sink: the long runs that no test has time for, without a host and in one.

mod bench;
mod bench_report;
mod faults;
mod host_soak;
mod process;
mod soak;

pub use bench::{BenchOptions, bench};
pub use bench_report::{BenchReport, BenchRun, Contestant};
pub use faults::{POISON, poison};
pub use host_soak::{HostSoakReport, soak_in_host};
pub use soak::{SoakOptions, SoakReport, soak};
