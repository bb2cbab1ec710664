//! From a `config:` mapping to the JSON a plugin gets, and from a plugin's complaints back to
//! the lines of the file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value};

use super::context::{Context, Located, Place, is_null};
use super::schema;
use super::schema_errors::{self, Complaint};
use crate::topology::codes;
use crate::topology::model::PluginConfig;
use crate::topology::plugins::{Describe, PluginConfigError, Replay, Scope};
use crate::topology::raw::Raw;
use crate::topology::words::{capitalized, nearest, sentence};

/// What stands in for a plugin's answer when there is none; the file is refused then anyway.
pub(super) const UNDESCRIBED: Describe = Describe {
    scope: Scope::Record,
    timers: false,
    replay: Replay::Idempotent,
};

/// A plugin's options, checked, with what the plugin says about itself under them.
pub(super) fn resolve(
    cx: &Context,
    plugin: &str,
    node: &Located,
    config: Option<&Located>,
) -> (PluginConfig, Describe) {
    let schema = cx.plugins.schema(plugin);
    let everything = Value::Bool(true);
    let place = schema::Place::root(schema.as_ref().unwrap_or(&everything));
    let mut reader = Reader {
        cx,
        whole: Site::whole(config.unwrap_or(node)),
        sites: BTreeMap::new(),
        secrets: BTreeSet::new(),
        holes: BTreeSet::new(),
    };
    let value = match config {
        Some(at) if cx.mapping(at, "a mapping of options").is_some() => {
            reader.value(at, "", &place)
        }
        Some(_) => {
            reader.holes.insert(String::new());
            Value::Object(Map::new())
        }
        None => Value::Object(Map::new()),
    };
    let mut complaints = match &schema {
        Some(schema) => schema_errors::check(schema, &value, &reader.secrets),
        None => Vec::new(),
    };
    // What a noted fault left empty is no fault of its own.
    complaints.retain(|complaint| {
        !reader
            .holes
            .iter()
            .any(|hole| covers(hole, &complaint.pointer))
    });
    if reader.holes.is_empty() {
        let found = cx.plugins.validate(plugin, &value);
        complaints.extend(unexplained(found, &complaints));
    }
    let mut describe = UNDESCRIBED;
    if complaints.is_empty() && reader.holes.is_empty() {
        match cx.plugins.describe(plugin, &value) {
            Ok(answer) => describe = answer,
            Err(errors) => complaints = unexplained(errors, &[]),
        }
    }
    for complaint in complaints {
        reader.note(plugin, complaint);
    }
    (PluginConfig::new(value, reader.secrets), describe)
}

/// Whether a JSON pointer is another one or leads below it.
fn covers(outer: &str, inner: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The plugin's own complaints, without those about places that the schema already refused: a
/// plugin that reads its options by type stops at the same fault.
fn unexplained(found: Vec<PluginConfigError>, known: &[Complaint]) -> Vec<Complaint> {
    let is_known = |path: &str| {
        known
            .iter()
            .any(|complaint| covers(&complaint.pointer, path) || covers(path, &complaint.pointer))
    };
    found
        .into_iter()
        .filter(|error| !is_known(&error.path))
        .map(in_words)
        .collect()
}

/// A plugin's complaint as cause and cure: the SDK's have the form "is empty; remove it", where
/// the option is the subject.
fn in_words(error: PluginConfigError) -> Complaint {
    let (cause, help) = error
        .message
        .split_once("; ")
        .unwrap_or((&error.message, ""));
    let subject = match cause.starts_with(|c: char| c.is_lowercase()) {
        true => format!("{} ", schema_errors::option_name(&error.path)),
        false => String::new(),
    };
    Complaint {
        code: codes::PLUGIN_OPTION_VALUE,
        message: sentence(&format!("{subject}{cause}")),
        help: match help {
            "" => String::new(),
            help => sentence(&capitalized(help)),
        },
        pointer: error.path,
    }
}

/// Where an option stands in the file.
struct Site {
    value: Place,
    key: Place,
}

impl Site {
    fn whole(at: &Located) -> Site {
        Site {
            value: at.key_place(),
            key: at.key_place(),
        }
    }
}

struct Reader<'c, 'a> {
    cx: &'c Context<'a>,
    /// Where the configuration as a whole stands, or the node that has none.
    whole: Site,
    /// By JSON pointer.
    sites: BTreeMap<String, Site>,
    secrets: BTreeSet<String>,
    /// Values that a fault already noted left empty.
    holes: BTreeSet<String>,
}

impl Reader<'_, '_> {
    /// The value as JSON, null in place of what a fault left empty. The depth is bounded by the
    /// first stage.
    fn value(&mut self, at: &Located, pointer: &str, expected: &schema::Place) -> Value {
        self.sites.insert(
            pointer.to_owned(),
            Site {
                value: at.place(),
                key: at.key_place(),
            },
        );
        match &at.node.value {
            Raw::Mapping(entries) => {
                let members = entries.iter().map(|entry| {
                    let pointer = format!("{pointer}/{}", escape(&entry.key));
                    // A misspelled option is read as the one probably meant, so that a secret
                    // under a misspelled name stays hidden.
                    let near = nearest(&entry.key, expected.property_names());
                    let known = expected.property(&entry.key);
                    let below = match (known.is_known(), near) {
                        (false, Some(near)) => expected.property(near),
                        _ => known,
                    };
                    (
                        entry.key.clone(),
                        self.value(&at.entry(entry), &pointer, &below),
                    )
                });
                Value::Object(members.collect())
            }
            Raw::Sequence(items) => {
                let below = expected.item();
                let values = items.iter().enumerate().map(|(index, node)| {
                    let pointer = format!("{pointer}/{index}");
                    self.value(&at.item(index, node), &pointer, &below)
                });
                Value::Array(values.collect())
            }
            Raw::Scalar { text, plain: true } if is_null(text) => Value::Null,
            Raw::Scalar { .. } => self.scalar(at, pointer, expected),
        }
    }

    fn scalar(&mut self, at: &Located, pointer: &str, expected: &schema::Place) -> Value {
        let read = match expected.is_secret() {
            true => self.cx.secret_scalar(at, "a value"),
            false => self.cx.scalar(at, "a value"),
        };
        let Some(scalar) = read else {
            self.holes.insert(pointer.to_owned());
            return Value::Null;
        };
        if scalar.secret {
            self.secrets.insert(pointer.to_owned());
        }
        match (scalar.interpolated, scalar.plain) {
            (true, _) => typed_as_expected(scalar.text, expected),
            (false, true) => typed_as_written(scalar.text),
            (false, false) => Value::String(scalar.text),
        }
    }

    fn note(&self, plugin: &str, complaint: Complaint) {
        let site = self.nearest_site(&complaint.pointer);
        let place = match complaint.code {
            code if code == codes::PLUGIN_UNKNOWN_OPTION
                || code == codes::PLUGIN_MISSING_OPTION =>
            {
                &site.key
            }
            _ => &site.value,
        };
        let help = match complaint.help.is_empty() {
            true => format!("`weir plugins {plugin} --schema` prints the options of `{plugin}`."),
            false => complaint.help,
        };
        self.cx.note(complaint.code, place, complaint.message, help);
    }

    /// The site of a pointer, or of the nearest value around it.
    fn nearest_site(&self, pointer: &str) -> &Site {
        let mut pointer = pointer;
        loop {
            match (self.sites.get(pointer), pointer.rfind('/')) {
                (Some(site), _) => return site,
                (None, Some(cut)) => pointer = pointer.get(..cut).unwrap_or(""),
                (None, None) => return &self.whole,
            }
        }
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// An interpolated text takes the type that the schema wants: a number or a boolean where it can be
/// read as one that is allowed, and text otherwise.
fn typed_as_expected(text: String, expected: &schema::Place) -> Value {
    let written = typed_as_written(text.clone());
    let wanted = match &written {
        Value::Bool(_) => expected.takes("boolean"),
        Value::Number(number) => {
            expected.takes("number") || (expected.takes("integer") && !number.is_f64())
        }
        // `null` may be a text that someone wants to write.
        Value::Null => expected.takes("null") && !expected.takes("string"),
        _ => false,
    };
    if wanted { written } else { Value::String(text) }
}

/// The type of a plain scalar by YAML 1.2's core schema. What JSON has no number for, such as
/// `.inf`, stays text.
fn typed_as_written(text: String) -> Value {
    if is_null(&text) {
        return Value::Null;
    }
    match text.as_str() {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = integer(&text).or_else(|| float(&text));
    number.map_or(Value::String(text), Value::Number)
}

fn integer(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).ok().map(Number::from);
    }
    let signed = text.parse::<i64>().ok().map(Number::from);
    signed.or_else(|| text.parse::<u64>().ok().map(Number::from))
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?` (YAML 1.2.2, 10.3.2).
fn float(text: &str) -> Option<Number> {
    let shape = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let digits = text
        .trim_start_matches(['+', '-'])
        .starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !shape || !digits {
        return None;
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, value) in [
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("+3", json!(3)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("true", json!(true)),
            ("yes", json!("yes")),
            ("~", json!(null)),
            ("1m", json!("1m")),
            (".inf", json!(".inf")),
            ("1.2.3", json!("1.2.3")),
            ("e5", json!("e5")),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(typed_as_written(text.to_owned()), value, "{text}");
        }
    }

    #[test]
    fn interpolated_text_is_typed_by_the_schema() {
        let schema = json!({"properties": {
            "n": {"type": ["integer", "null"]}, "s": {"type": "string"}, "b": {"type": "boolean"}, "x": {},
            "z": {"type": ["string", "integer"]}
        }});
        let typed = |at: &str, text: &str| {
            typed_as_expected(text.to_owned(), &schema::Place::root(&schema).property(at))
        };
        assert_eq!(typed("n", "5"), json!(5));
        assert_eq!(typed("n", "5.5"), json!("5.5"));
        assert_eq!(typed("s", "5"), json!("5"));
        assert_eq!(typed("b", "true"), json!(true));
        assert_eq!(typed("x", "5"), json!("5"));
        assert_eq!(typed("z", "5"), json!(5));
        assert_eq!(typed("z", "5KiB"), json!("5KiB"));
    }
}
