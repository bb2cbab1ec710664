//! Plugins: found in folders, judged before they are opened, opened once, called through safe wrappers.
//!
//! `inspect` tells what a file is without running it; `load` opens exactly the inspected bytes, holds the `unsafe` of
//! this module and never closes a library; `catalog` knows which plugin stands in which file; `instance` turns what an
//! instance may not do into errors.

mod catalog;
mod config;
mod inspect;
mod instance;
mod layout;
mod load;
mod manifest;
mod protocol;
mod refused;

pub use catalog::{Catalog, Entry, Found, Unusable};
pub use config::{ConfigError, Description, Replay, Scope, TargetFinding};
pub use inspect::{FILE_BYTES_MAX, Inspected, inspect};
pub use instance::{
    CallError, CallErrorKind, Creation, Processed, SinkInstance, Snapshot, TransformInstance,
};
pub use manifest::{AbiVersion, Manifest};
pub use refused::{Refused, code};

/// Where a plugin may stand in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Transform,
    Sink,
}

impl Kind {
    /// The word used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Transform => "transform",
            Kind::Sink => "sink",
        }
    }
}
