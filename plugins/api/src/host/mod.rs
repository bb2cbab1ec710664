//! The owning side of the boundary: arenas, batches that own what they borrow, services. Used by the host and by the
//! SDK's test harness.

mod arena;
mod batch;
mod service;

pub(crate) use arena::arena_grow;
pub use arena::{ARENA_BYTES_MAX, Arena, CHUNK_BYTES};
pub use batch::{
    CallScope, Collected, HeaderFields, OwnedBatch, RecordFields, collect, collect_from,
};
pub use service::{HostService, host_handle};
