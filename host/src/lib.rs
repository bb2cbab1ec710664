//! The host

pub mod plugin;
