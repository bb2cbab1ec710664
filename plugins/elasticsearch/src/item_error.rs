//! Names of item errors for the metric: a set that no server can widen.

use crate::bulk_answer::Item;
use crate::item_class::named_error_types;

/// Types that decide nothing by themselves, but that an operator wants to tell apart.
const MORE_TYPES: &[&str] = &[
    "es_rejected_execution_exception",
    "opensearch_rejected_execution_exception",
    "circuit_breaking_exception",
    "cluster_block_exception",
    "security_exception",
    "document_missing_exception",
];
/// The item went to a data stream's failure store, under a status of success.
const FAILURE_STORE: &str = "failure_store";
const OTHER: &str = "other";

/// `None` for an item without error.
pub(crate) fn label(item: &Item) -> Option<&'static str> {
    if item.is_in_failure_store() {
        return Some(FAILURE_STORE);
    }
    let error_type = item.error.as_ref()?.error_type();
    let known = named_error_types().chain(MORE_TYPES.iter().copied());
    Some(
        known
            .into_iter()
            .find(|name| *name == error_type)
            .unwrap_or(OTHER),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labeled(json: &str) -> Option<&'static str> {
        label(&crate::bulk_answer::read_item(json))
    }

    #[test]
    fn only_known_types_become_labels() {
        assert_eq!(labeled(r#"{"status":201}"#), None);
        for (error_type, expected) in [
            ("document_parsing_exception", "document_parsing_exception"),
            ("cluster_block_exception", "cluster_block_exception"),
            ("invented_by_a_proxy_42", OTHER),
        ] {
            let item = format!(r#"{{"status":400,"error":{{"type":"{error_type}"}}}}"#);
            assert_eq!(labeled(&item), Some(expected));
        }
        assert_eq!(labeled(r#"{"status":400,"error":"text"}"#), Some(OTHER));
        assert_eq!(
            labeled(r#"{"status":201,"failure_store":"used"}"#),
            Some(FAILURE_STORE)
        );
        assert_eq!(
            labeled(r#"{"status":201,"failure_store":"not_applicable_or_unknown"}"#),
            None
        );
    }
}
