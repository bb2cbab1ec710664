//! The host
