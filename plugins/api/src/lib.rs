//! The ABI
