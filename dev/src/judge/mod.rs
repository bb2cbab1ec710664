//! The judge: recomputes from the topics themselves what the pipelines should have written.
//!
//! Written from the contract of the product alone. It shares no code with the plugins and no
//! crate that they parse with beyond serde_json, so that one mistake cannot be on both sides.

mod dead_letters;
mod percentile;
mod reduced;
mod report;
mod rfc3339;
mod stored;
mod visit;
mod windows;

pub use dead_letters::{DeadLetterRules, check_dead_letter};
pub use percentile::percentile;
pub use reduced::{Delivery, ReduceCase};
pub use report::Report;
pub use stored::{Documents, StoredCase};
pub use visit::{Verdict, Visit, verdict};
pub use windows::{WindowCase, WindowRules, timestamp_text};
