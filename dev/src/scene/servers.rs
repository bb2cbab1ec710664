//! The servers that a whole test run shares.

use std::env;

use anyhow::{Context, Result};

const CURE: &str =
    "run the end-to-end tests by `cargo run -p weir-dev -- with-servers -- cargo test -p weir-dev`";

/// The bootstrap address of the shared Kafka.
pub fn shared_kafka() -> Result<String> {
    env::var("WEIR_TEST_KAFKA").with_context(|| format!("WEIR_TEST_KAFKA is not set; {CURE}"))
}

/// The URL of the shared Elasticsearch.
pub fn shared_elasticsearch() -> Result<String> {
    env::var("WEIR_TEST_ELASTICSEARCH")
        .with_context(|| format!("WEIR_TEST_ELASTICSEARCH is not set; {CURE}"))
}
