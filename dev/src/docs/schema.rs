//! A plugin's JSON Schema as a table for people.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// One row per setting; settings inside an object are written with a dot (`batch.records`).
///
/// Reads what schemars makes of a configuration struct: properties, `required`, defaults, references into `$defs`,
/// enums of words, and the SDK's formats for durations, sizes and secrets.
pub fn table(schema: &Value) -> String {
    let mut table = String::from("| setting | type | default | meaning |\n|---|---|---|---|\n");
    rows(schema, schema, "", &mut table);
    table
}

fn rows(root: &Value, object: &Value, prefix: &str, table: &mut String) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else {
        return;
    };
    // Settings that must be given stand first.
    let is_required = |name: &str| {
        let required = object.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|other| other == name))
    };
    let (first, then): (Vec<_>, Vec<_>) = properties
        .iter()
        .partition(|(name, _)| is_required(name.as_str()));
    for (name, setting) in first.into_iter().chain(then) {
        let resolved = resolve(root, setting);
        let absent = if is_required(name) {
            "required"
        } else {
            "not set"
        };
        let name = format!("{prefix}{name}");
        let default = match setting.get("default") {
            _ if resolved.contains_key("properties") => String::new(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
            None => absent.to_owned(),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(
            table,
            "| `{name}` | {} | {default} | {} |",
            kind(root, &resolved),
            meaning(&resolved)
        );
        if resolved.contains_key("properties") {
            rows(root, &Value::Object(resolved), &format!("{name}."), table);
        }
    }
}

/// The setting with what it refers to; its own words win.
fn resolve(root: &Value, setting: &Value) -> Map<String, Value> {
    let own = setting.as_object().cloned().unwrap_or_default();
    let target = own.get("$ref").and_then(Value::as_str);
    let pointer = target.and_then(|target| target.strip_prefix('#'));
    let mut resolved = pointer
        .and_then(|pointer| root.pointer(pointer))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    resolved.extend(own);
    resolved
}

fn kind(root: &Value, setting: &Map<String, Value>) -> String {
    match setting.get("format").and_then(Value::as_str) {
        Some("weir-duration") => return "duration".to_owned(),
        Some("weir-byte-size") => return "size".to_owned(),
        Some("password") => return "text, secret".to_owned(),
        _ => {}
    }
    if let Some(choices) = setting.get("oneOf").and_then(Value::as_array) {
        let words = choices.iter().filter_map(|choice| choice.get("const"));
        let words: Vec<String> = words.map(|word| format!("`{}`", plain(word))).collect();
        return words.join(" or ");
    }
    let number = |name: &str| setting.get(name).and_then(Value::as_i64);
    match setting.get("type").map(type_name) {
        Some("array") => {
            let items = setting.get("items").map(|items| resolve(root, items));
            format!(
                "list of {}s",
                items.map_or_else(String::new, |items| kind(root, &items))
            )
        }
        Some("object") => "mapping".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            (Some(least), None) => format!("integer, from {least}"),
            _ => "integer".to_owned(),
        },
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

/// Of `["string", "null"]` the part that is not null.
fn type_name(of: &Value) -> &str {
    let names = of
        .as_array()
        .map_or(std::slice::from_ref(of), Vec::as_slice);
    let mut names = names.iter().filter_map(Value::as_str);
    names.find(|name| *name != "null").unwrap_or("null")
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// On one line, since a table's cell has no more.
fn meaning(setting: &Map<String, Value>) -> String {
    let text = setting.get("description").and_then(Value::as_str);
    let words: Vec<&str> = text.unwrap_or_default().split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;

    #[test]
    fn settings_become_rows_with_types_defaults_and_meanings() {
        let schema = json!({
            "$defs": {
                "Batch": { "type": "object", "properties": {
                    "records": { "type": "integer", "minimum": 1, "maximum": 9, "default": 5, "description": "Most\nrecords." },
                } },
                "Emit": { "oneOf": [{ "const": "document" }, { "const": "sketch" }] },
            },
            "properties": {
                "batch": { "$ref": "#/$defs/Batch", "description": "When it is closed.", "default": { "records": 5 } },
                "emit": { "$ref": "#/$defs/Emit", "default": "document", "description": "What." },
                "password": { "type": ["string", "null"], "format": "password", "description": "A | B." },
                "urls": { "type": "array", "items": { "type": "string" }, "description": "Where." },
                "wait": { "type": "string", "format": "weir-duration", "default": "1m", "description": "How long." },
            },
            "required": ["urls"],
        });
        let expected = "\
            | setting | type | default | meaning |\n\
            |---|---|---|---|\n\
            | `urls` | list of texts | required | Where. |\n\
            | `batch` | mapping |  | When it is closed. |\n\
            | `batch.records` | integer, 1 to 9 | `5` | Most records. |\n\
            | `emit` | `document` or `sketch` | `document` | What. |\n\
            | `password` | text, secret | not set | A \\| B. |\n\
            | `wait` | duration | `1m` | How long. |\n";
        assert_eq!(table(&schema), expected);
    }
}
