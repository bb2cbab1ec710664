//! Types for settings: durations and sizes as people write them, secrets that cannot be printed.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

/// A duration as `500ms`, `10s`, `1m`, `2h`; a plain `0` is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DurationSetting(pub Duration);

/// A size as `64KiB`, `1MiB`, `1GiB`, or bytes as a number or `512B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

/// A secret text: not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

fn parse_scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    if unit.is_empty() && number == 0 {
        return Some(0);
    }
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*scale)
}

impl DurationSetting {
    /// Reads `500ms`, `10s`, `1m`, `2h`, `0`.
    pub fn parse(text: &str) -> Option<Self> {
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        parse_scaled(text, &units).map(|ms| DurationSetting(Duration::from_millis(ms)))
    }
}

impl ByteSize {
    /// Reads `64KiB`, `1MiB`, `1GiB`, `512B`, `0`.
    pub fn parse(text: &str) -> Option<Self> {
        let units = [
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
        ];
        parse_scaled(text, &units).map(ByteSize)
    }
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText<'a> {
    Number(u64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for DurationSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        DurationSetting::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no duration; write `500ms`, `10s`, `1m` or `2h`"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => return Ok(ByteSize(bytes)),
            NumberOrText::Text(text) => text,
        };
        ByteSize::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no size; write `64KiB`, `1MiB` or a number of bytes"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

/// Written as the shortest exact text, so that schemas can show defaults.
impl Serialize for DurationSetting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.as_millis();
        let text = match ms {
            0 => "0s".to_owned(),
            ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
            ms => format!("{ms}ms"),
        };
        serializer.serialize_str(&text)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self.0 {
            bytes if bytes > 0 && bytes % (1 << 30) == 0 => format!("{}GiB", bytes >> 30),
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
            bytes => format!("{bytes}B"),
        };
        serializer.serialize_str(&text)
    }
}

impl JsonSchema for DurationSetting {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(0|[0-9]+ *(ms|s|m|h))$", "format": "weir-duration" })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"], "minimum": 0,
            "pattern": "^(0|[0-9]+ *(B|KiB|MiB|GiB))$", "format": "weir-byte-size"
        })
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true, "format": "password" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        let ms = |text| DurationSetting::parse(text).map(|duration| duration.0.as_millis());
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("2h"), Some(7_200_000));
        assert_eq!(ms("0"), Some(0));
        for bad in [
            "",
            "s",
            "10",
            "-1s",
            "1d",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
        assert_eq!(ByteSize::parse("64KiB"), Some(ByteSize(65_536)));
        assert_eq!(
            serde_json::from_str::<ByteSize>("12").ok(),
            Some(ByteSize(12))
        );
        assert_eq!(
            serde_json::to_value(ByteSize(65_536)).ok(),
            Some("64KiB".into())
        );
        assert_eq!(
            serde_json::to_value(DurationSetting(Duration::from_secs(60))).ok(),
            Some("1m".into())
        );
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }
}
