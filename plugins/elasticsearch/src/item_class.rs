//! What an item of a bulk answer means: one total table over status and `error.type`.
//!
//! The text of `error.reason` is never matched, since it quotes user data. Source of the rows: the exceptions' own
//! status codes in Elasticsearch 7.17 to 9 and OpenSearch 1 to 3.

use crate::refusal::code;
use crate::write_plan::Action;

/// What happens to the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemClass {
    /// The primary and its in-sync replicas have it.
    Stored,
    /// A delete found nothing to delete.
    Gone,
    /// A document of this id is there, so none is created.
    Exists,
    /// The server holds an equal or higher version. Without an external version: a race with another writer.
    Conflict,
    /// The document is guilty, with this code.
    Rejected(&'static str),
    /// The server is busy or short of something that comes back: sent again.
    Overloaded,
    /// Index or rights are in the way, never the document: sent again until an operator has acted.
    Systemic,
    /// An unexplained failure: sent again, a bounded number of times while other documents get through.
    Faulted,
}

#[derive(Clone, Copy, Debug)]
enum ErrorType {
    Any,
    Absent,
    OneOf(&'static [&'static str]),
}

struct Row {
    /// `None`: every action.
    action: Option<Action>,
    statuses: (u16, u16),
    error_type: ErrorType,
    class: ItemClass,
}

const fn row(statuses: (u16, u16), error_type: ErrorType, class: ItemClass) -> Row {
    Row {
        action: None,
        statuses,
        error_type,
        class,
    }
}

/// A row for one action.
const fn row_of(action: Action, status: u16, error_type: ErrorType, class: ItemClass) -> Row {
    Row {
        action: Some(action),
        statuses: (status, status),
        error_type,
        class,
    }
}

use ErrorType::{Absent, Any, OneOf};
use ItemClass::{Conflict, Exists, Faulted, Gone, Overloaded, Rejected, Stored, Systemic};

/// The first row that fits decides; the last rows fit everything.
const TABLE: &[Row] = &[
    row((200, 299), Absent, Stored),
    row_of(Action::Delete, 404, Absent, Gone),
    // An unversioned delete makes no index, so where none is, nothing is left to delete.
    row_of(
        Action::Delete,
        404,
        OneOf(&["index_not_found_exception"]),
        Gone,
    ),
    row_of(
        Action::Create,
        409,
        OneOf(&["version_conflict_engine_exception"]),
        Exists,
    ),
    row(
        (409, 409),
        OneOf(&["version_conflict_engine_exception"]),
        Conflict,
    ),
    // Two writers created the index at once: it is there when the item comes again.
    row(
        (409, 409),
        OneOf(&["resource_already_exists_exception"]),
        Overloaded,
    ),
    row(
        (400, 400),
        OneOf(&[
            "mapper_parsing_exception",
            "document_parsing_exception",
            "strict_dynamic_mapping_exception",
            "mapper_exception",
            "parsing_exception",
            "parse_exception",
            "json_parse_exception",
            "x_content_parse_exception",
        ]),
        Rejected(code::MAPPING),
    ),
    // Closed by an operator, opened by one. The other is what a full cluster (shards, say) says to a new index.
    row(
        (400, 400),
        OneOf(&["index_closed_exception", "validation_exception"]),
        Systemic,
    ),
    row(
        (400, 400),
        OneOf(&["illegal_argument_exception"]),
        Rejected(code::ILLEGAL_ARGUMENT),
    ),
    row(
        (400, 400),
        OneOf(&[
            "action_request_validation_exception",
            "routing_missing_exception",
            "invalid_index_name_exception",
        ]),
        Rejected(code::REQUEST_INVALID),
    ),
    // Rights and index blocks (`FORBIDDEN/8/index write`, `FORBIDDEN/5/index read-only`).
    row((401, 401), Any, Systemic),
    row((403, 403), Any, Systemic),
    // With `action.auto_create_index` off.
    row((404, 404), OneOf(&["index_not_found_exception"]), Systemic),
    row(
        (404, 404),
        OneOf(&["shard_not_found_exception"]),
        Overloaded,
    ),
    row((408, 408), Any, Overloaded),
    row((413, 413), Any, Rejected(code::PAYLOAD_TOO_LARGE)),
    // Rejected execution, circuit breakers, the flood-stage block.
    row((429, 429), Any, Overloaded),
    row((400, 499), Any, Rejected(code::REJECTED)),
    // Failures between nodes carry 500 although they pass by themselves.
    row(
        (500, 500),
        OneOf(&[
            "node_not_connected_exception",
            "node_disconnected_exception",
            "node_closed_exception",
            "connect_transport_exception",
            "receive_timeout_transport_exception",
            "send_request_transport_exception",
            "no_node_available_exception",
            "unavailable_shards_exception",
            "primary_missing_action_exception",
        ]),
        Overloaded,
    ),
    row((502, 504), Any, Overloaded),
    row((507, 507), Any, Overloaded),
    row((0, u16::MAX), Any, Faulted),
];

/// Every `error.type` that a row names.
pub(crate) fn named_error_types() -> impl Iterator<Item = &'static str> {
    let named = TABLE.iter().filter_map(|row| match row.error_type {
        OneOf(names) => Some(names),
        Any | Absent => None,
    });
    named.flatten().copied()
}

impl ErrorType {
    fn fits(self, error_type: Option<&str>) -> bool {
        match self {
            ErrorType::Any => true,
            ErrorType::Absent => error_type.is_none(),
            ErrorType::OneOf(names) => error_type.is_some_and(|name| names.contains(&name)),
        }
    }
}

/// Classifies an item.
pub(crate) fn classify_item(
    action: Action,
    status: u16,
    error_type: Option<&str>,
    is_in_failure_store: bool,
) -> ItemClass {
    if is_in_failure_store {
        return Rejected(code::FAILURE_STORE);
    }
    let fits = |row: &&Row| row.fits(action, status, error_type);
    TABLE.iter().find(fits).map_or(Faulted, |row| row.class)
}

impl Row {
    fn fits(&self, action: Action, status: u16, error_type: Option<&str>) -> bool {
        self.action.is_none_or(|only| only == action)
            && (self.statuses.0..=self.statuses.1).contains(&status)
            && self.error_type.fits(error_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, error_type: &str) -> ItemClass {
        classify_item(Action::Index, status, Some(error_type), false)
    }

    #[test]
    fn the_known_rows() {
        assert_eq!(classify_item(Action::Index, 201, None, false), Stored);
        assert_eq!(classify_item(Action::Index, 200, None, false), Stored);
        assert_eq!(class(409, "version_conflict_engine_exception"), Conflict);
        assert_eq!(class(409, "resource_already_exists_exception"), Overloaded);
        assert_eq!(
            class(400, "mapper_parsing_exception"),
            Rejected(code::MAPPING)
        );
        assert_eq!(
            class(400, "document_parsing_exception"),
            Rejected(code::MAPPING)
        );
        assert_eq!(
            class(400, "illegal_argument_exception"),
            Rejected(code::ILLEGAL_ARGUMENT)
        );
        assert_eq!(class(400, "index_closed_exception"), Systemic);
        assert_eq!(class(403, "cluster_block_exception"), Systemic);
        assert_eq!(class(401, "security_exception"), Systemic);
        assert_eq!(class(403, "security_exception"), Systemic);
        assert_eq!(class(404, "index_not_found_exception"), Systemic);
        assert_eq!(class(429, "cluster_block_exception"), Overloaded);
        assert_eq!(
            class(429, "opensearch_rejected_execution_exception"),
            Overloaded
        );
        assert_eq!(class(503, "unavailable_shards_exception"), Overloaded);
        assert_eq!(class(500, "node_not_connected_exception"), Overloaded);
        assert_eq!(class(500, "null_pointer_exception"), Faulted);
    }

    #[test]
    fn the_action_decides_where_the_status_does_not() {
        let conflict = Some("version_conflict_engine_exception");
        assert_eq!(classify_item(Action::Create, 409, conflict, false), Exists);
        assert_eq!(
            classify_item(Action::Update, 409, conflict, false),
            Conflict
        );
        assert_eq!(
            classify_item(Action::Delete, 409, conflict, false),
            Conflict
        );
        assert_eq!(classify_item(Action::Delete, 404, None, false), Gone);
        assert_eq!(
            classify_item(Action::Index, 404, None, false),
            Rejected(code::REJECTED)
        );
        let missing = Some("index_not_found_exception");
        assert_eq!(classify_item(Action::Delete, 404, missing, false), Gone);
        assert_eq!(classify_item(Action::Update, 404, missing, false), Systemic);
        let no_document = Some("document_missing_exception");
        assert_eq!(
            classify_item(Action::Update, 404, no_document, false),
            Rejected(code::REJECTED)
        );
    }

    #[test]
    fn unknown_errors_have_a_class_too() {
        assert_eq!(class(418, "teapot_exception"), Rejected(code::REJECTED));
        assert_eq!(
            classify_item(Action::Index, 400, None, false),
            Rejected(code::REJECTED)
        );
        assert_eq!(class(599, "new_exception"), Faulted);
        assert_eq!(class(302, "odd"), Faulted);
        assert_eq!(class(0, "odd"), Faulted);
        assert_eq!(class(201, "an error beside a success"), Faulted);
    }

    #[test]
    fn case_47_a_document_in_the_failure_store_is_not_in_the_index() {
        for (word, status, expected) in [
            ("used", 201, Rejected(code::FAILURE_STORE)),
            ("not_applicable_or_unknown", 201, Stored),
            ("not_enabled", 429, Overloaded),
        ] {
            let item = format!(r#"{{"status":{status},"failure_store":"{word}"}}"#);
            let item = crate::bulk_answer::read_item(&item);
            let in_store = item.is_in_failure_store();
            let class = classify_item(Action::Index, item.status, None, in_store);
            assert_eq!(class, expected, "{word}");
        }
    }

    #[test]
    fn only_a_success_without_error_counts_as_stored() {
        let types: Vec<&str> = named_error_types().chain(["never_heard_of"]).collect();
        for status in 0..=1_000 {
            let bare = classify_item(Action::Index, status, None, false);
            assert_eq!(bare == Stored, (200..300).contains(&status), "{status}");
            for error_type in &types {
                let class = class(status, error_type);
                assert_ne!(class, Stored, "{status} {error_type}");
                let guilty = matches!(class, Rejected(_));
                assert!(
                    !guilty || (400..500).contains(&status),
                    "{status} {error_type}"
                );
            }
        }
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        let actions = [
            Action::Index,
            Action::Create,
            Action::Update,
            Action::Delete,
        ];
        for (position, row) in TABLE.iter().enumerate() {
            let names: Vec<Option<&str>> = match row.error_type {
                OneOf(names) => names.iter().copied().map(Some).collect(),
                Any => vec![Some("never_heard_of")],
                Absent => vec![None],
            };
            let earlier = TABLE.get(..position).unwrap_or_default();
            for name in names {
                let visible = (row.statuses.0..=row.statuses.1).any(|status| {
                    actions.iter().any(|action| {
                        row.fits(*action, status, name)
                            && !earlier.iter().any(|row| row.fits(*action, status, name))
                    })
                });
                assert!(visible, "row {position}, {name:?}");
            }
        }
    }
}
