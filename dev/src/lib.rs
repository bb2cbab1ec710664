//! Real servers for tests, end-to-end tests, benchmarks.
