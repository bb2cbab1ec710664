//! The cost of a host against a bare client loop, on one real Kafka, in one sitting.

mod bare_loop;
mod contestant;
pub(crate) mod cost;
mod fill;
mod progress;
mod report;
mod tracker;

pub use bare_loop::BareLoop;
pub use contestant::{Contestant, Measured, Target};
pub use fill::fill;
pub use report::Summary;
