//! Reads the answer of a bulk request, and believes it only if it speaks of exactly the operations that were sent.

use std::borrow::Cow;

use serde::Deserialize;

use crate::operation::Operation;
use crate::refusal::clip;
use crate::write_plan::Action;

/// Longest server text that goes into a message.
const REASON_MAX_BYTES: usize = 512;

/// One item, in the order of the request.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) status: u16,
    pub(crate) error: Option<Box<ServerError>>,
    is_in_failure_store: bool,
}

impl Item {
    /// A mapping or pipeline failure on a data stream: the document stands in the failure store in place of the index,
    /// under a status of success.
    pub(crate) fn is_in_failure_store(&self) -> bool {
        self.is_in_failure_store
    }
}

/// `error` of an item or of a whole request; a bare text in servers and proxies that know no better.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ServerError {
    Typed {
        #[serde(rename = "type")]
        error_type: String,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        caused_by: Option<Box<ServerError>>,
    },
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl ServerError {
    /// `error.type`; an error that names none still counts as one.
    pub(crate) fn error_type(&self) -> &str {
        match self {
            ServerError::Typed { error_type, .. } => error_type,
            ServerError::Text(_) | ServerError::Other(_) => "unknown",
        }
    }

    /// `type: reason`, at most about 512 bytes.
    pub(crate) fn describe(&self) -> String {
        let text = match self {
            ServerError::Typed {
                error_type,
                reason: Some(reason),
                ..
            } => format!("{error_type}: {reason}"),
            ServerError::Typed {
                error_type,
                reason: None,
                ..
            } => error_type.clone(),
            ServerError::Text(text) => text.clone(),
            ServerError::Other(_) => "an error of unknown form".to_owned(),
        };
        clip(text, REASON_MAX_BYTES)
    }

    /// The chain of causes below this error, outermost first; empty if there is none.
    pub(crate) fn causes(&self) -> String {
        let mut text = String::new();
        let mut error = self;
        while let ServerError::Typed {
            caused_by: Some(cause),
            ..
        } = error
        {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str("caused by ");
            text.push_str(&cause.describe());
            error = cause;
        }
        text
    }
}

/// An item as it stands in the answer. Texts without escapes, which is nearly all, stay where they are: an answer of
/// 1,000 items would be 1,000 allocations else.
#[derive(Debug, Deserialize)]
struct WireItem<'a> {
    #[serde(rename = "_id", borrow)]
    id: Option<WireText<'a>>,
    status: u16,
    #[serde(default)]
    error: Option<Box<ServerError>>,
    #[serde(default, borrow)]
    failure_store: Option<WireText<'a>>,
}

impl From<WireItem<'_>> for Item {
    fn from(item: WireItem<'_>) -> Self {
        Item {
            status: item.status,
            error: item.error,
            is_in_failure_store: item.failure_store.is_some_and(|state| state.0 == "used"),
        }
    }
}

/// Serde borrows for a [`Cow`] only where it stands by itself, not inside an `Option`.
#[derive(Debug, Deserialize)]
struct WireText<'a>(#[serde(borrow)] Cow<'a, str>);

/// Each item stands under the name of its action.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NamedItem<'a> {
    #[serde(borrow)]
    Index(WireItem<'a>),
    Create(WireItem<'a>),
    Update(WireItem<'a>),
    Delete(WireItem<'a>),
}

impl<'a> NamedItem<'a> {
    fn into_parts(self) -> (Action, WireItem<'a>) {
        match self {
            NamedItem::Index(item) => (Action::Index, item),
            NamedItem::Create(item) => (Action::Create, item),
            NamedItem::Update(item) => (Action::Update, item),
            NamedItem::Delete(item) => (Action::Delete, item),
        }
    }
}

#[derive(Debug, Deserialize)]
struct BulkBody<'a> {
    #[serde(borrow)]
    items: Vec<NamedItem<'a>>,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: ServerError,
}

/// The items of a 200, in the order of `sent`. The answer's own `errors` flag is not asked: the items' status wins.
///
/// Errors: why the answer cannot be believed (cut off, no JSON, other count, action or ids than were sent). Then nothing
/// is known about any operation.
pub(crate) fn read_items(body: &[u8], sent: &[Operation]) -> Result<Vec<Item>, String> {
    // Checked as a whole: the parser would check each text by itself, which costs more.
    let text = simdutf8::basic::from_utf8(body)
        .map_err(|_| "the answer to a bulk is unreadable (no UTF-8)".to_owned())?;
    let answer: BulkBody<'_> = serde_json::from_str(text).map_err(|error| {
        let (category, column) = (error.classify(), error.column());
        format!(
            "the answer to a bulk is unreadable ({category:?} error at byte {column} of {})",
            body.len()
        )
    })?;
    if answer.items.len() != sent.len() {
        let (got, expected) = (answer.items.len(), sent.len());
        return Err(format!(
            "the answer to a bulk has {got} items where {expected} were sent"
        ));
    }
    let mut items = Vec::with_capacity(sent.len());
    for (position, (named, sent)) in answer.items.into_iter().zip(sent).enumerate() {
        let (action, item) = named.into_parts();
        let other_id = match (&item.id, sent.id()) {
            (Some(answered), Some(sent)) => answered.0.as_bytes() != sent,
            _ => false,
        };
        if action != sent.action || other_id {
            return Err(format!(
                "item {position} of the answer to a bulk names another operation than was sent"
            ));
        }
        items.push(item.into());
    }
    Ok(items)
}

/// `type: reason` of a whole-request error; `None` if the body has no such form (a proxy's page, say).
pub(crate) fn read_error(body: &[u8]) -> Option<String> {
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    Some(body.error.describe())
}

/// One item without its action's name.
#[cfg(test)]
pub(crate) fn read_item(text: &str) -> Item {
    let item: WireItem<'_> = serde_json::from_str(text).expect("an item");
    item.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::operation;

    fn sent(ids: &[&str]) -> Vec<Operation> {
        ids.iter()
            .enumerate()
            .map(|(seq, id)| operation(seq as u64, id, Some(1)))
            .collect()
    }

    fn read(body: &str, ids: &[&str]) -> Result<Vec<Item>, String> {
        read_items(body.as_bytes(), &sent(ids))
    }

    #[test]
    fn a_whole_answer_is_read_in_order() {
        let body = r#"{"took":3,"errors":true,"items":[
            {"index":{"_index":"i","_id":"a","_version":1,"result":"created","status":201}},
            {"index":{"_index":"i","_id":"b","status":400,"error":{"type":"mapper_parsing_exception","reason":"no",
                "caused_by":{"type":"number_format_exception","reason":"x","caused_by":{"type":"deep"}}}}}]}"#;
        let items = read(body, &["a", "b"]).expect("items");
        assert_eq!(
            items.iter().map(|item| item.status).collect::<Vec<_>>(),
            [201, 400]
        );
        let error = items[1].error.as_ref().expect("an error");
        assert_eq!(error.error_type(), "mapper_parsing_exception");
        assert_eq!(error.describe(), "mapper_parsing_exception: no");
        assert_eq!(
            error.causes(),
            "caused by number_format_exception: x; caused by deep"
        );
    }

    #[test]
    fn case_10_a_truncated_answer_says_nothing() {
        let body = r#"{"items":[{"index":{"_id":"a","status":201}}]}"#;
        for end in 0..body.len() {
            assert!(read(&body[..end], &["a"]).is_err(), "{end}");
        }
        assert!(read(body, &["a"]).is_ok());
    }

    #[test]
    fn case_11_an_answer_about_other_operations_says_nothing() {
        let one = r#"{"index":{"_id":"a","status":201}}"#;
        let two = r#"{"index":{"_id":"b","status":201}}"#;
        let items = |items: &[&str]| format!("{{\"items\":[{}]}}", items.join(","));
        assert!(read(&items(&[one, two]), &["a", "b"]).is_ok());
        assert!(read(&items(&[one]), &["a", "b"]).is_err());
        assert!(read(&items(&[one, two, two]), &["a", "b"]).is_err());
        assert!(read(&items(&[two, one]), &["a", "b"]).is_err());
        assert!(read(r#"{"items":[{"create":{"_id":"a","status":201}}]}"#, &["a"]).is_err());
        assert!(read("{}", &["a"]).is_err());
        assert!(read("<html>", &["a"]).is_err());
    }

    #[test]
    fn ids_are_compared_unescaped_and_may_be_left_out() {
        let answer = |id: &str| format!(r#"{{"items":[{{"index":{{{id}"status":201}}}}]}}"#);
        for (id, sent) in [
            (r#""_id":"k\"1","#, "k\"1"),
            (r#""_id":"\u00e9","#, "é"),
            (r#""_id":"\ud83d\ude00","#, "😀"),
            (r#""_id":null,"#, "a"),
            ("", "a"),
            (r#""_id":"a","failure_store":null,"#, "a"),
        ] {
            let items = read(&answer(id), &[sent]);
            assert!(
                items.is_ok_and(|items| !items[0].is_in_failure_store()),
                "{id}"
            );
        }
        assert!(read(&answer(r#""_id":"\u00e9","#), &["e"]).is_err());
        let no_text = b"{\"items\":[{\"index\":{\"_id\":\"\xff\",\"status\":201}}]}";
        assert!(read_items(no_text, &sent(&["a"])).is_err());
    }

    #[test]
    fn errors_of_odd_forms_are_errors_still() {
        let body = r#"{"items":[{"index":{"status":400,"error":"text"}},{"index":{"status":500,"error":{"code":1}}}]}"#;
        let items = read(body, &["a", "b"]).expect("items");
        let types: Vec<_> = items
            .iter()
            .filter_map(|item| item.error.as_deref())
            .map(ServerError::error_type)
            .collect();
        assert_eq!(types, ["unknown", "unknown"]);
        assert_eq!(
            read_error(br#"{"error":{"type":"t","reason":"r"},"status":400}"#).as_deref(),
            Some("t: r")
        );
        assert_eq!(read_error(b"<html>"), None);
    }
}
