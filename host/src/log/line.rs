//! One line of the log, whatever its form.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// Keys that every line has; a field of such a name gets an underscore.
const OWN_KEYS: [&str; 4] = ["timestamp", "level", "target", "message"];

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// RFC 3339, UTC, milliseconds.
    pub timestamp: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// The module or library that speaks.
    pub target: String,
    /// The sentence; may be empty.
    pub message: String,
    /// Everything else, in order.
    pub fields: Vec<(String, Value)>,
}

impl Line {
    /// A line of this moment without fields.
    pub fn now(level: &str, target: &str) -> Self {
        Self {
            timestamp: format!("{:.3}", jiff::Timestamp::now()),
            level: level.to_owned(),
            target: target.to_owned(),
            message: String::new(),
            fields: Vec::new(),
        }
    }

    /// Reads a line in its JSON form. `None` if it is something else.
    pub fn parse(json: &str) -> Option<Self> {
        let mut object: Map<String, Value> = serde_json::from_str(json).ok()?;
        let mut take = |key: &str| match object.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let [timestamp, level, target, message] = OWN_KEYS.map(&mut take);
        Some(Self {
            timestamp: timestamp?,
            level: level?,
            target: target?,
            message: message.unwrap_or_default(),
            fields: object.into_iter().collect(),
        })
    }

    /// Adds a field.
    pub fn push(&mut self, name: &str, value: Value) {
        let name = match OWN_KEYS.contains(&name) {
            true => format!("{name}_"),
            false => name.to_owned(),
        };
        self.fields.push((name, value));
    }

    /// A field's text; `None` where it is absent or no text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        value.as_str()
    }

    /// The stable name of what happened, if the line has one.
    pub fn event(&self) -> Option<&str> {
        self.text("event")
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        map.serialize_entry("level", &self.level)?;
        map.serialize_entry("target", &self.target)?;
        map.serialize_entry("message", &self.message)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_its_json_form() {
        let mut line = Line::now("INFO", "weir::task");
        line.message = "two\nlines and \"quotes\"".to_owned();
        line.push("event", Value::from("ready"));
        line.push("seconds", Value::from(3));
        let json = serde_json::to_string(&line).expect("plain data");
        assert_eq!(Line::parse(&json), Some(line));
    }

    #[test]
    fn a_field_cannot_take_the_place_of_a_key() {
        let mut line = Line::now("INFO", "t");
        line.push("level", Value::from("high"));
        assert_eq!(line.text("level_"), Some("high"));
    }

    #[test]
    fn other_text_is_no_line() {
        for text in ["", "thread panicked", "[1]", "{}", r#"{"timestamp":1}"#] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
