//! The host

pub mod commands;
pub mod plugin;
