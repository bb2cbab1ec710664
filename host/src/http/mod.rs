//! HTTP beside the data path: `/healthz`, `/readyz`, `/metrics`.
//!
//! One thread with its own single-threaded runtime serves everything. It reads snapshots of counters and states and
//! touches nothing that a task waits for. [`bind`] takes the port before anything else starts, so that a port that is
//! taken refuses the start; [`BoundListener::serve`] answers from then on.

mod listen;
mod routes;
mod server;

pub use listen::{BoundListener, DEFAULT_ADDRESS, HttpError, Listen, MAX_NEXT_PORTS, bind};
pub use routes::{METRICS_CONTENT_TYPE, host_router, with_fallbacks};
pub(crate) use routes::{metrics_text, ready_status};
pub use server::{
    CONNECTION_LIFETIME, HEADER_TIMEOUT, HttpServer, MAX_BODY_BYTES, MAX_CONNECTIONS,
    MAX_HEADER_BYTES,
};
