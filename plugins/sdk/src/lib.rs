//! What the author of a Weir plugin uses: safe traits, a configuration struct, one export macro.
//!
//! A transform implements [`SimpleTransform`] (the configuration struct is the transform) or [`Transform`]
//! (configuration apart, state, event time); a sink implements [`Sink`]. [`export_plugins!`] makes the library loadable.
//!
//! ```
//! use weir_plugin_sdk::*;
//!
//! /// Drops records whose value is longer than the limit.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct MaxBytes {
//!     /// Longest value that passes, in bytes.
//!     max_bytes: usize,
//! }
//!
//! impl SimpleTransform for MaxBytes {
//!     fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
//!         if record.value().is_some_and(|value| value.len() <= self.max_bytes) {
//!             out.emit(record);
//!         }
//!         Ok(())
//!     }
//! }
//! # fn main() {}
//! ```

mod context;
mod error;
mod export;
mod out;
mod record;
mod setting;
mod sink;
mod state;
mod transform;

pub mod testing;

#[doc(hidden)]
pub mod shim;

pub use context::Context;
pub use error::{Error, Errors, Findings};
pub use out::Out;
pub use record::{Batch, Record, TimestampType};
pub use schemars::JsonSchema;
pub use serde::Deserialize;
pub use setting::{ByteSize, DurationSetting, Secret};
pub use sink::{Flush, Replay, Settle, Sink, SinkMetric, Verdict};
pub use state::{State, StateParts};
pub use transform::{Scope, SimpleTransform, Transform, TransformDescription, Watermark};

#[doc(hidden)]
pub use weir_plugin_api as api;
pub use {schemars, serde, serde_json};
