//! Why a record is refused for good, with the stable codes that dead letters carry.

/// The stable codes. `README.md` of this folder lists them for users.
pub(crate) mod code {
    pub(crate) const KEY_NULL: &str = "elasticsearch.key_null";
    pub(crate) const ID_MISSING: &str = "elasticsearch.id_missing";
    pub(crate) const ID_NOT_UTF8: &str = "elasticsearch.id_not_utf8";
    pub(crate) const ID_LENGTH: &str = "elasticsearch.id_length";
    pub(crate) const VERSION_MISSING: &str = "elasticsearch.version_missing";
    pub(crate) const VERSION_INVALID: &str = "elasticsearch.version_invalid";
    pub(crate) const INDEX_MISSING: &str = "elasticsearch.index_missing";
    pub(crate) const INDEX_INVALID: &str = "elasticsearch.index_invalid";
    pub(crate) const ROUTING_MISSING: &str = "elasticsearch.routing_missing";
    pub(crate) const TIMESTAMP_MISSING: &str = "elasticsearch.timestamp_missing";
    pub(crate) const VALUE_NULL: &str = "elasticsearch.value_null";
    pub(crate) const VALUE_NOT_UTF8: &str = "elasticsearch.value_not_utf8";
    pub(crate) const VALUE_NOT_JSON: &str = "elasticsearch.value_not_json";
    pub(crate) const VALUE_NOT_OBJECT: &str = "elasticsearch.value_not_object";
    pub(crate) const DOCUMENT_TOO_LARGE: &str = "elasticsearch.document_too_large";
    pub(crate) const PAYLOAD_TOO_LARGE: &str = "elasticsearch.payload_too_large";
    pub(crate) const MAPPING: &str = "elasticsearch.mapping";
    pub(crate) const ILLEGAL_ARGUMENT: &str = "elasticsearch.illegal_argument";
    pub(crate) const REQUEST_INVALID: &str = "elasticsearch.request_invalid";
    pub(crate) const DOCUMENT_EXISTS: &str = "elasticsearch.document_exists";
    pub(crate) const CONFLICT: &str = "elasticsearch.conflict";
    pub(crate) const FAILURE_STORE: &str = "elasticsearch.failure_store";
    pub(crate) const SERVER_FAULT: &str = "elasticsearch.server_fault";
    pub(crate) const REJECTED: &str = "elasticsearch.rejected";
}

/// Longest message in bytes: what a dead letter's `exception.message` header holds (1 KiB).
const MESSAGE_MAX_BYTES: usize = 1024;

/// One record is guilty: it goes to the pipeline's `on_error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// One of [`code`].
    pub(crate) code: &'static str,
    /// One sentence that names the field or the limit; at most 1 KiB.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            code,
            message: clip(message.into(), MESSAGE_MAX_BYTES),
        }
    }
}

/// `text` cut to at most `limit` bytes, at a character.
pub(crate) fn clip(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_a_character() {
        let refusal = Refusal::new(code::REJECTED, "ä".repeat(2_000));
        assert!(refusal.message.len() <= MESSAGE_MAX_BYTES);
        assert!(refusal.message.ends_with("ä…"));
        assert_eq!(clip("short".into(), 5), "short");
    }
}
