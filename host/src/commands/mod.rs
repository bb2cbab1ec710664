//! The commands of the `weir` binary, one module each.

pub mod graph;
pub mod validate;
