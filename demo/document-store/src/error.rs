//! Errors as Elasticsearch words them: a status, a type and a reason.

use serde_json::{Value, json};

/// What a request or one bulk item is refused with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status of the answer, or of the item.
    pub status: u16,
    /// `error.type`, for example `version_conflict_engine_exception`.
    pub error_type: String,
    /// `error.reason`: prose, never to be matched on.
    pub reason: String,
}

impl ApiError {
    pub fn new(status: u16, error_type: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            status,
            error_type: error_type.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn illegal_argument(reason: impl Into<String>) -> Self {
        Self::new(400, "illegal_argument_exception", reason)
    }

    pub(crate) fn parsing(reason: impl Into<String>) -> Self {
        Self::new(400, "parsing_exception", reason)
    }

    pub(crate) fn index_not_found(index: &str) -> Self {
        Self::new(
            404,
            "index_not_found_exception",
            format!("no such index [{index}]"),
        )
    }

    /// Several things wrong with one request, which refuse it as a unit.
    pub(crate) fn validation(failures: &[String]) -> Self {
        let mut reason = String::from("Validation Failed: ");
        for (position, failure) in failures.iter().enumerate() {
            reason.push_str(&format!("{}: {failure};", position + 1));
        }
        Self::new(400, "action_request_validation_exception", reason)
    }

    /// The body of a whole-request error.
    pub(crate) fn body(&self) -> Value {
        json!({
            "error": {
                "root_cause": [{"type": self.error_type, "reason": self.reason}],
                "type": self.error_type,
                "reason": self.reason,
            },
            "status": self.status,
        })
    }
}
