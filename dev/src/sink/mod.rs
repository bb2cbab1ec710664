//! The Elasticsearch sink alone, without a host: the long runs that no test has time for.

mod bench;
mod faults;
mod process;
mod soak;

pub use bench::{BenchOptions, BenchRow, bench};
pub use faults::{POISON, poison};
pub use soak::{SoakOptions, SoakReport, soak};
