//! The ABI between the Weir host and its plugins: every type that crosses, and nothing else.
//!
//! A plugin library exports one symbol, abi_stable's library header, behind which stands [`PluginModule`].
//! Data types are frozen `#[repr(C)]` structs of bytes and integers; what may grow (services, declarations,
//! plugin objects) are prefix types and `#[sabi_trait]` objects that grow at their tail.
//!
//! Authors do not use this crate directly: `weir-plugin-sdk` wraps it in safe traits.
//! The layout is guarded by `tests/layout.golden`; changing it before the freeze needs a reason in the commit.
//!
//! Not frozen yet. After the freeze a change of any inline function here that touches shared state is a new major.

mod batch;
mod bytes;
mod error;
mod manifest;
mod module;
mod output;
mod service;
mod settlement;
mod sink;
mod transform;

pub mod host;

pub use abi_stable;
pub use batch::{
    Batch, Header, NO_TIMESTAMP, Record, SEQ_DERIVED, SLOT_ALL, SlotName, timestamp_type,
};
pub use bytes::Bytes;
pub use error::{Consumed, PluginError, error_kind};
pub use manifest::{
    MANIFEST_LEN_MAX, MANIFEST_SECTION, NAME_LEN_MAX, is_legal_name, manifest_bytes, manifest_len,
};
pub use module::{
    ConfigError, CreateContext, Description, PluginDecl, PluginDeclRef, PluginModule,
    PluginModuleRef, TargetFinding, plugin_kind, replay, scope, severity,
};
pub use output::{Failure, Mark, Output, TimerRequest};
pub use service::{HostHandle, HostVt, HostVtRef, log_level};
pub use settlement::{
    Rejection, Settled, Settlements, SinkErrorCount, SinkNumber, sink_metric, verdict,
};
pub use sink::{SinkBox, SinkObject, SinkObject_TO, flush_state};
pub use transform::{StatePart, StatePartRef, TransformBox, TransformObject, TransformObject_TO};

/// Version of this ABI, `major.minor.patch`; the loader compares major and minor of host and plugin.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The symbol under which a plugin library exports its header (abi_stable's fixed name).
pub const HEADER_SYMBOL: &str = abi_stable::library::ROOT_MODULE_LOADER_NAME;
