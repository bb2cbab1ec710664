//! Where id, version and routing of a document come from: settings that are written as one text.

use std::borrow::Cow;
use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use weir_plugin_sdk::{Deserialize, JsonSchema};

use crate::document::Pointer;

/// A JSON pointer (RFC 6901) to a document's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPointer(pub(crate) Pointer);

/// Where a document's id comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum IdSource {
    #[default]
    Key,
    Coordinates,
    Header(String),
    Field(FieldPointer),
    /// The server makes one.
    Auto,
}

/// Where a document's version comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum VersionSource {
    #[default]
    Auto,
    Offset,
    Timestamp,
    Header(String),
    None,
}

/// What chooses a document's shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum RoutingSource {
    /// The id.
    #[default]
    None,
    Key,
    Header(String),
    Field(FieldPointer),
}

fn header_name(text: &str) -> Option<String> {
    text.strip_prefix("header:")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

fn field_pointer(text: &str) -> Option<FieldPointer> {
    text.strip_prefix("field:")
        .and_then(Pointer::parse)
        .map(FieldPointer)
}

impl TryFrom<String> for IdSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "key" => return Ok(IdSource::Key),
            "coordinates" => return Ok(IdSource::Coordinates),
            "auto" => return Ok(IdSource::Auto),
            _ => {}
        }
        header_name(&text)
            .map(IdSource::Header)
            .or_else(|| field_pointer(&text).map(IdSource::Field))
            .ok_or_else(|| {
                format!(
                    "`{text}` is no id; write `key`, `coordinates`, `header:NAME`, `field:/POINTER` or `auto`"
                )
            })
    }
}

impl TryFrom<String> for VersionSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => return Ok(VersionSource::Auto),
            "offset" => return Ok(VersionSource::Offset),
            "timestamp" => return Ok(VersionSource::Timestamp),
            "none" => return Ok(VersionSource::None),
            _ => {}
        }
        header_name(&text).map(VersionSource::Header).ok_or_else(|| {
            format!("`{text}` is no version; write `auto`, `offset`, `timestamp`, `header:NAME` or `none`")
        })
    }
}

impl TryFrom<String> for RoutingSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "none" => return Ok(RoutingSource::None),
            "key" => return Ok(RoutingSource::Key),
            _ => {}
        }
        header_name(&text)
            .map(RoutingSource::Header)
            .or_else(|| field_pointer(&text).map(RoutingSource::Field))
            .ok_or_else(|| {
                format!(
                    "`{text}` is no routing; write `none`, `key`, `header:NAME` or `field:/POINTER`"
                )
            })
    }
}

impl fmt::Display for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdSource::Key => f.write_str("key"),
            IdSource::Coordinates => f.write_str("coordinates"),
            IdSource::Header(name) => write!(f, "header:{name}"),
            IdSource::Field(pointer) => write!(f, "field:{}", pointer.0.as_str()),
            IdSource::Auto => f.write_str("auto"),
        }
    }
}

impl fmt::Display for VersionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionSource::Auto => f.write_str("auto"),
            VersionSource::Offset => f.write_str("offset"),
            VersionSource::Timestamp => f.write_str("timestamp"),
            VersionSource::Header(name) => write!(f, "header:{name}"),
            VersionSource::None => f.write_str("none"),
        }
    }
}

impl fmt::Display for RoutingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoutingSource::None => f.write_str("none"),
            RoutingSource::Key => f.write_str("key"),
            RoutingSource::Header(name) => write!(f, "header:{name}"),
            RoutingSource::Field(pointer) => write!(f, "field:{}", pointer.0.as_str()),
        }
    }
}

/// Serialization (for the defaults in the schema) and schema of a setting that is one text.
macro_rules! text_setting {
    ($name:ident, $pattern:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_setting!(IdSource, "^(key|coordinates|header:.+|field:/.*|auto)$");
text_setting!(VersionSource, "^(auto|offset|timestamp|none|header:.+)$");
text_setting!(RoutingSource, "^(none|key|header:.+|field:/.*)$");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_read_as_they_are_written() {
        for text in [
            "key",
            "coordinates",
            "header:doc id",
            "field:/a/b~1c",
            "auto",
        ] {
            let source = IdSource::try_from(text.to_owned()).expect(text);
            assert_eq!(serde_json::to_value(&source).ok(), Some(json!(text)));
        }
        for text in ["auto", "offset", "timestamp", "none", "header:v"] {
            let source = VersionSource::try_from(text.to_owned()).expect(text);
            assert_eq!(serde_json::to_value(&source).ok(), Some(json!(text)));
        }
        for text in ["none", "key", "header:r", "field:/r"] {
            let source = RoutingSource::try_from(text.to_owned()).expect(text);
            assert_eq!(serde_json::to_value(&source).ok(), Some(json!(text)));
        }
        for text in ["", "Key", "header:", "field:a", "field:", "field:/~2"] {
            assert!(IdSource::try_from(text.to_owned()).is_err(), "{text}");
            assert!(RoutingSource::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!(VersionSource::try_from("latest".to_owned()).is_err());
    }
}
