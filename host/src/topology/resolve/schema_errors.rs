//! A value against a plugin's JSON Schema, with every fault in a user's words.
//!
//! `jsonschema` is the validator: complete, kept up, and its errors are data (kind and path), so
//! that the wording can be Weir's and a secret value never reaches it.

use std::collections::BTreeSet;

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde_json::Value;

use super::schema;
use crate::topology::codes::{self, Code};
use crate::topology::mask::MASK;
use crate::topology::words::{did_you_mean, listed, nearest, quoted};

/// Deepest nesting of alternatives that is followed for the fault that matters.
const ALTERNATIVES_DEPTH_MAX: usize = 8;

/// The formats that the SDK's quantities declare, what they are, and how they are written.
const QUANTITIES: &[(&str, &str, &str)] = &[
    (
        "weir-duration",
        "a duration",
        "Write a whole number and a unit: `500ms`, `10s`, `1m` or `2h`.",
    ),
    (
        "weir-byte-size",
        "a size",
        "Write a whole number and a unit, `64KiB` or `1MiB`, or a number of bytes.",
    ),
];

/// A fault of one option.
#[derive(Debug, PartialEq)]
pub(super) struct Complaint {
    pub code: Code,
    /// JSON pointer to the option.
    pub pointer: String,
    pub message: String,
    /// Empty if nothing better than the schema can be named.
    pub help: String,
}

/// Every fault of a value; those in `secrets` (JSON pointers) are described without the value.
pub(super) fn check(schema: &Value, value: &Value, secrets: &BTreeSet<String>) -> Vec<Complaint> {
    let validator = match jsonschema::options().build(schema) {
        Ok(validator) => validator,
        Err(error) => {
            return vec![Complaint {
                code: codes::PLUGIN_SCHEMA,
                pointer: String::new(),
                message: format!("The plugin's own configuration schema is invalid: {error}."),
                help: "Tell the plugin's author; the host cannot check the options.".into(),
            }];
        }
    };
    let mut judge = Judge {
        schema,
        secrets,
        complaints: Vec::new(),
        meant: BTreeSet::new(),
    };
    for error in validator.iter_errors(value) {
        judge.error(&error, 0);
    }
    let Judge {
        mut complaints,
        meant,
        ..
    } = judge;
    complaints.retain(|complaint| {
        complaint.code != codes::PLUGIN_MISSING_OPTION || !meant.contains(&complaint.pointer)
    });
    complaints
}

struct Judge<'s> {
    schema: &'s Value,
    secrets: &'s BTreeSet<String>,
    complaints: Vec<Complaint>,
    /// Options that are probably there under a misspelled name.
    meant: BTreeSet<String>,
}

impl Judge<'_> {
    fn add(&mut self, code: Code, pointer: String, message: String, help: String) {
        let complaint = Complaint {
            code,
            pointer,
            message,
            help,
        };
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    fn error(&mut self, error: &ValidationError, depth: usize) {
        let pointer = error.instance_path().as_str().to_owned();
        let name = option_name(&pointer);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                self.unknown(&pointer, unexpected);
            }
            ValidationErrorKind::Required { property } => {
                let option = property.as_str().unwrap_or_default();
                let message = format!("{name} needs the option `{option}`.");
                let help = format!("Add `{option}:`.");
                let place = below(&pointer, option);
                self.add(codes::PLUGIN_MISSING_OPTION, place, message, help);
            }
            ValidationErrorKind::Type { .. } | ValidationErrorKind::Pattern { .. }
                if self.quantity(&pointer).is_some() =>
            {
                let (noun, help) = self.quantity(&pointer).unwrap_or_default();
                let message = format!("{name} is {}, and {noun} is wanted.", self.described(error));
                self.add(codes::PLUGIN_OPTION_TYPE, pointer, message, help.to_owned());
            }
            ValidationErrorKind::Type { kind } => {
                let wanted = types(kind);
                let message = format!(
                    "{name} is {}, and {wanted} is wanted.",
                    self.described(error)
                );
                let help = type_cure(error.instance(), kind);
                self.add(codes::PLUGIN_OPTION_TYPE, pointer, message, help);
            }
            ValidationErrorKind::Enum { options } => {
                self.word(
                    error,
                    options.as_array().map(Vec::as_slice).unwrap_or_default(),
                );
            }
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => {
                self.alternatives(error, context, depth);
            }
            _ => {
                let message = format!("{name} is refused: {}.", error.masked_with("the value"));
                self.add(codes::PLUGIN_OPTION_VALUE, pointer, message, String::new());
            }
        }
    }

    /// What a quantity with a unit is called, and how it is written; None for other options.
    fn quantity(&self, pointer: &str) -> Option<(&'static str, &'static str)> {
        let place = schema::Place::root(self.schema).at(pointer);
        let known = QUANTITIES
            .iter()
            .find(|(format, ..)| place.has_format(format));
        known.map(|(_, noun, help)| (*noun, *help))
    }

    fn unknown(&mut self, pointer: &str, unexpected: &[String]) {
        let names = schema::Place::root(self.schema)
            .at(pointer)
            .property_names();
        for option in unexpected {
            let near = nearest(option, names.iter().copied());
            self.meant.extend(near.map(|near| below(pointer, near)));
            let help = match (near, names.is_empty()) {
                (Some(near), _) => format!("Did you mean `{near}`?"),
                (None, true) => "Remove it; no option is known there.".into(),
                (None, false) => format!("Known there: {}.", listed(names.iter().copied(), "and")),
            };
            let message = format!("The plugin knows no option {}.", quoted(option));
            self.add(
                codes::PLUGIN_UNKNOWN_OPTION,
                below(pointer, option),
                message,
                help,
            );
        }
    }

    fn word(&mut self, error: &ValidationError, options: &[Value]) {
        let words: Vec<String> = options.iter().map(plain).collect();
        let words = || words.iter().map(String::as_str);
        let given = error.instance().as_str().unwrap_or_default().to_owned();
        let pointer = error.instance_path().as_str().to_owned();
        let message = format!("{} knows no {}.", option_name(&pointer), self.shown(error));
        let help = did_you_mean(&given, words())
            .unwrap_or_else(|| format!("Write {}.", listed(words(), "or")));
        self.add(codes::PLUGIN_OPTION_VALUE, pointer, message, help);
    }

    /// Of several alternatives, the words they name, or the one whose type fits; otherwise all.
    fn alternatives(
        &mut self,
        error: &ValidationError,
        context: &[Vec<ValidationError<'static>>],
        depth: usize,
    ) {
        let words: Vec<Value> = context.iter().flatten().flat_map(words_of).collect();
        if !words.is_empty() && error.instance().is_string() {
            return self.word(error, &words);
        }
        let depth_of = |error: &ValidationError| error.instance_path().as_str().len();
        let own = depth_of(error);
        let fits = |branch: &&Vec<ValidationError<'static>>| {
            !branch.iter().any(|inner| {
                depth_of(inner) <= own && matches!(inner.kind(), ValidationErrorKind::Type { .. })
            })
        };
        if let (Some(branch), true) = (context.iter().find(fits), depth < ALTERNATIVES_DEPTH_MAX) {
            return branch.iter().for_each(|inner| self.error(inner, depth + 1));
        }
        let kinds: Vec<String> = context
            .iter()
            .flatten()
            .filter_map(|inner| match inner.kind() {
                ValidationErrorKind::Type { kind } => Some(types(kind)),
                _ => None,
            })
            .collect();
        let pointer = error.instance_path().as_str().to_owned();
        let wanted = if kinds.is_empty() {
            "something else".into()
        } else {
            kinds.join(" or ")
        };
        let message = format!(
            "{} is {}, and {wanted} is wanted.",
            option_name(&pointer),
            self.described(error)
        );
        self.add(codes::PLUGIN_OPTION_TYPE, pointer, message, String::new());
    }

    /// The value as a message may show it.
    fn shown(&self, error: &ValidationError) -> String {
        match self.secrets.contains(error.instance_path().as_str()) {
            true => MASK.to_owned(),
            false => quoted(&plain(error.instance())),
        }
    }

    fn described(&self, error: &ValidationError) -> String {
        match error.instance().as_ref() {
            Value::Null => "empty".to_owned(),
            Value::Bool(_) => format!("the boolean {}", self.shown(error)),
            Value::Number(_) => format!("the number {}", self.shown(error)),
            Value::String(_) => format!("the text {}", self.shown(error)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        }
    }
}

/// The JSON pointer of a property.
fn below(pointer: &str, property: &str) -> String {
    format!(
        "{pointer}/{}",
        property.replace('~', "~0").replace('/', "~1")
    )
}

/// The words that one refused alternative would have taken.
fn words_of(error: &ValidationError) -> Vec<Value> {
    match error.kind() {
        ValidationErrorKind::Enum { options } => options.as_array().cloned().unwrap_or_default(),
        ValidationErrorKind::Constant { expected_value } => vec![expected_value.as_ref().clone()],
        _ => Vec::new(),
    }
}

/// A value without JSON's quotes.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// "`size`", or "The configuration" for the whole.
pub(super) fn option_name(pointer: &str) -> String {
    match pointer.trim_start_matches('/') {
        "" => "The configuration".to_owned(),
        path => quoted(&path.replace('/', ".").replace("~1", "/").replace("~0", "~")),
    }
}

fn types(kind: &TypeKind) -> String {
    let words = |name: &str| match name {
        "string" => "text",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        _ => "nothing",
    };
    match kind {
        TypeKind::Single(one) => words(one.as_str()).to_owned(),
        TypeKind::Multiple(several) => {
            let kinds: Vec<&str> = several.iter().map(|one| words(one.as_str())).collect();
            let shown = kinds
                .iter()
                .filter(|kind| **kind != "nothing" || kinds.len() == 1);
            shown.copied().collect::<Vec<_>>().join(" or ")
        }
    }
}

fn type_cure(given: &Value, kind: &TypeKind) -> String {
    let wanted = types(kind);
    match given {
        Value::Number(_) | Value::Bool(_) if wanted.contains("text") => "Quote it.".into(),
        Value::String(_) if wanted.contains("integer") || wanted.contains("number") => {
            "Write the number without quotes and without a unit.".into()
        }
        Value::String(_) if wanted.contains("list") => "Write a list: `[a, b]`.".into(),
        _ => String::new(),
    }
}
