//! The container files without a container engine: every file against its schema, and every name in one file against the file that must
//! hold it. Nothing here needs a server. `docker/lint` adds the tools that only a package registry has.

mod compose;
mod dashboards;
mod image;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A YAML file below the root as JSON, merge keys applied.
fn yaml(path: &str) -> Value {
    let text = text(path);
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value under `keys`, or a panic that names the first missing one.
fn at<'a>(value: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().fold(value, |value, key| {
        value
            .get(key)
            .unwrap_or_else(|| panic!("no `{key}` of {keys:?} in {value}"))
    })
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The environment variables that `${NAME}` and `${NAME:-default}` name anywhere in a text; `true` where a default is given.
fn variables(text: &str) -> Vec<(String, bool)> {
    let inside = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(inside, _)| inside);
    let named = inside.filter(|inside| inside.starts_with(|c: char| c.is_ascii_uppercase()));
    named
        .map(|inside| {
            inside
                .split_once(":-")
                .map_or((inside.to_owned(), false), |(name, _)| {
                    (name.to_owned(), true)
                })
        })
        .collect()
}
