//! From the bytes of a visit to the two fields that matter.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{rfc3339, scan};

/// First and last second of the years 1 to 9999. Epoch milliseconds of today lie far outside, so that nobody's
/// milliseconds pass as seconds.
const EVENT_TIME_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// What is kept of a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit<'a> {
    /// Not empty. An integer id is its decimal text.
    pub id: Cow<'a, str>,
    /// Unix seconds.
    pub event_time: i64,
}

/// Why a value is no visit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVisit {
    #[error("the value is null; a visit is a JSON object")]
    NullValue,
    #[error("the value is not UTF-8 from byte {valid_up_to} on; JSON is always UTF-8")]
    NotUtf8 { valid_up_to: usize },
    #[error("the value is no JSON: {reason}")]
    NotJson { reason: String },
    #[error("the value is JSON, but no object")]
    NotAnObject,
    #[error("`{0}` is missing")]
    Missing(Field),
    #[error("`{0}` is null")]
    Null(Field),
    #[error("`{0}` is empty")]
    Empty(Field),
    #[error("`{field}` is {found}; {}", .field.expected())]
    WrongType { field: Field, found: &'static str },
    #[error("`{field}` is a number with a fraction or an exponent; {}", .field.expected())]
    NotAnInteger { field: Field },
    #[error("`{field}` is out of range; {}", .field.expected())]
    OutOfRange { field: Field },
    #[error("`{0}` holds an escape that stands for no character")]
    BadEscape(Field),
    #[error(
        "`{}` is no RFC 3339 time such as `2024-06-01T00:00:00+00:00`",
        Field::EventTime
    )]
    BadTime,
}

/// A field that the plugin reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    VisitId,
    EventTime,
}

impl Field {
    fn expected(self) -> &'static str {
        match self {
            Field::VisitId => {
                "it must be a string that is not empty, or an integer of at most 64 bits"
            }
            Field::EventTime => {
                "it must be an RFC 3339 string, or unix seconds in the years 1 to 9999"
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::VisitId => "visit_id",
            Field::EventTime => "event_time",
        })
    }
}

impl BadVisit {
    /// Stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            BadVisit::NullValue => "reduce-visit.null_value",
            BadVisit::NotUtf8 { .. } => "reduce-visit.not_utf8",
            BadVisit::NotJson { .. } => "reduce-visit.not_json",
            BadVisit::NotAnObject => "reduce-visit.not_an_object",
            BadVisit::Missing(_) => "reduce-visit.field_missing",
            BadVisit::Null(_) => "reduce-visit.field_null",
            BadVisit::Empty(_) => "reduce-visit.field_empty",
            BadVisit::WrongType { .. } => "reduce-visit.wrong_type",
            BadVisit::NotAnInteger { .. } => "reduce-visit.not_an_integer",
            BadVisit::OutOfRange { .. } => "reduce-visit.out_of_range",
            BadVisit::BadEscape(_) => "reduce-visit.bad_escape",
            BadVisit::BadTime => "reduce-visit.bad_time",
        }
    }
}

/// Reads a visit. The whole value must be UTF-8 and one JSON object; other fields are ignored, and of a field that
/// stands twice the last counts, as in most JSON readers.
pub fn parse(value: &[u8]) -> Result<Visit<'_>, BadVisit> {
    // Over the whole value: serde_json leaves the strings that it skips unchecked.
    let text = simdutf8::basic::from_utf8(value).map_err(|_| not_utf8(value))?;
    scan::fields(text)
        .map_or_else(|| Fields::deserialize(text), Ok)?
        .visit()
}

/// With the position, which the quick check does not give.
#[cold]
fn not_utf8(value: &[u8]) -> BadVisit {
    let valid_up_to = std::str::from_utf8(value)
        .err()
        .map_or(value.len(), |error| error.valid_up_to());
    BadVisit::NotUtf8 { valid_up_to }
}

/// JSON texts of the two fields' values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub visit_id: Option<&'a str>,
    pub event_time: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// The whole text must be one JSON object.
    pub fn deserialize(text: &'a str) -> Result<Self, BadVisit> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = json
            .deserialize_map(FieldsVisitor)
            .and_then(|fields| json.end().map(|()| fields));
        fields.map_err(|error| match error.classify() {
            serde_json::error::Category::Data => BadVisit::NotAnObject,
            _ => BadVisit::NotJson {
                reason: error.to_string(),
            },
        })
    }

    fn visit(self) -> Result<Visit<'a>, BadVisit> {
        Ok(Visit {
            id: id(self.visit_id)?,
            event_time: event_time(self.event_time)?,
        })
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::VisitId => fields.visit_id = Some(map.next_value::<&RawValue>()?.get()),
                Name::EventTime => fields.event_time = Some(map.next_value::<&RawValue>()?.get()),
                Name::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// Names are compared after their escapes are resolved: `"visit\u005fid"` is `visit_id`.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    VisitId,
    EventTime,
    #[serde(other)]
    Other,
}

fn id(json: Option<&str>) -> Result<Cow<'_, str>, BadVisit> {
    let field = Field::VisitId;
    match Scalar::of(json, field)? {
        Scalar::Text(text) if text.is_empty() => Err(BadVisit::Empty(field)),
        Scalar::Text(text) => Ok(text),
        Scalar::Integer("-0") => Ok("0".into()),
        Scalar::Integer(digits)
            if digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok() =>
        {
            Ok(digits.into())
        }
        Scalar::Integer(_) => Err(BadVisit::OutOfRange { field }),
    }
}

fn event_time(json: Option<&str>) -> Result<i64, BadVisit> {
    let field = Field::EventTime;
    match Scalar::of(json, field)? {
        Scalar::Text(text) => rfc3339::unix_seconds(text.as_bytes()).ok_or(BadVisit::BadTime),
        Scalar::Integer(digits) => {
            let seconds = digits
                .parse()
                .ok()
                .filter(|seconds| EVENT_TIME_SECONDS.contains(seconds));
            seconds.ok_or(BadVisit::OutOfRange { field })
        }
    }
}

/// A value that may stand in a field.
enum Scalar<'a> {
    /// Escapes resolved.
    Text(Cow<'a, str>),
    /// As written: an optional minus and digits.
    Integer(&'a str),
}

impl<'a> Scalar<'a> {
    /// `json` is one valid JSON value.
    fn of(json: Option<&'a str>, field: Field) -> Result<Self, BadVisit> {
        let json = json.ok_or(BadVisit::Missing(field))?;
        let found = match json.as_bytes().first() {
            Some(b'"') => {
                return text(json)
                    .map(Scalar::Text)
                    .ok_or(BadVisit::BadEscape(field));
            }
            Some(b'-' | b'0'..=b'9') if json.contains(['.', 'e', 'E']) => {
                return Err(BadVisit::NotAnInteger { field });
            }
            Some(b'-' | b'0'..=b'9') => return Ok(Scalar::Integer(json)),
            Some(b'n') => return Err(BadVisit::Null(field)),
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            _ => "a boolean",
        };
        Err(BadVisit::WrongType { field, found })
    }
}

/// The text of a JSON string; `None` for half a surrogate pair.
fn text(json: &str) -> Option<Cow<'_, str>> {
    if json.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    json.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed)
}
