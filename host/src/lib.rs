//! The host

pub mod commands;
pub mod topology;
