//! A document store that speaks the part of Elasticsearch which the SLA monitor needs, over real HTTP/1.1 on loopback.
//!
//! The demo shows its documents with it, and the fault tests script it: [`Faults`] says what goes wrong, [`Observations`]
//! what was seen. The wire answers follow Elasticsearch 8: per-item statuses and error types, external versions, 409 for
//! an older write, 400 for the whole request on a malformed action line.
//!
//! What it is not: there is one shard, no mapping and no disk. A document is searchable at once. Times are searched on
//! `@timestamp` only, full text is not searched. Memory is bounded by [`Settings::documents_max`] and
//! [`Settings::bytes_max`]; a full store refuses items with 429 `cluster_block_exception`, as Elasticsearch does at its
//! flood-stage watermark.
//!
//! ```no_run
//! use weir_document_store::{BulkFault, DocumentStore, ItemFault, ItemTarget, Settings};
//!
//! # fn main() -> Result<(), weir_document_store::StartError> {
//! let store = DocumentStore::start(Settings::default())?;
//! store.faults().push(BulkFault::too_many_requests(1));
//! store.faults().push_item(
//!     ItemFault::new(ItemTarget::id("bad"), 400, "document_parsing_exception", "failed to parse").times(1),
//! );
//! println!("send bulks to {}/_bulk", store.url());
//! # Ok(())
//! # }
//! ```

mod aggregations;
mod answer;
mod bulk;
mod connection;
mod error;
mod faults;
mod observations;
mod query;
mod request;
mod routes;
mod search;
mod serve_bulk;
mod server;
mod storage;
#[cfg(test)]
mod tests;
mod timestamp;

pub use bulk::{Action, ID_MAX_BYTES, Operation, VersionType};
pub use error::ApiError;
pub use faults::{BulkFault, FaultScope, Faults, Gate, ItemFault, ItemTarget, ItemsChange};
pub use observations::{Observations, ObservedBulk};
pub use server::{Authentication, DocumentStore, OversizeAnswer, Settings, StartError};
pub use storage::Document;
