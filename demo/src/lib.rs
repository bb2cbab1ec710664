//! The SLA monitor on one machine with nothing installed: an embedded broker (librdkafka's mock cluster), an embedded
//! document store, a visit generator, and `weir up` on the repository's own connectors.yaml as a child process.
//!
//! The demo knows the reference job, so that the host need not: it uses the host as any user does, by its command line.

pub mod duration;
pub mod error;
pub mod host;
pub mod observe;
pub mod produce;
pub mod readiness;
pub mod run;
pub mod screen;
pub mod topics;
pub mod view;
pub mod visits;
pub mod windows;
