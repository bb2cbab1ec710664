//! The little of JSON Schema that is needed before a value exists: which types an option takes,
//! which options there are, and which are secret.
//!
//! `jsonschema` answers whether a value is valid; it does not say what a place expects, which
//! decides how an interpolated text is typed.

use serde_json::Value;

/// Most subschemas followed from one place; ends a schema that refers to itself.
const SUBSCHEMAS_MAX: usize = 64;

/// The subschemas that apply at one place of a value.
#[derive(Clone, Debug)]
pub(super) struct Place<'s> {
    root: &'s Value,
    schemas: Vec<&'s Value>,
}

impl<'s> Place<'s> {
    pub(super) fn root(root: &'s Value) -> Place<'s> {
        Place::of(root, vec![root])
    }

    /// Follows references and combinations, so that every plain subschema is in the list.
    fn of(root: &'s Value, start: Vec<&'s Value>) -> Place<'s> {
        let mut schemas: Vec<&Value> = Vec::new();
        let mut open = start;
        while let Some(schema) = open.pop() {
            if schemas.len() >= SUBSCHEMAS_MAX
                || schemas.iter().any(|seen| std::ptr::eq(*seen, schema))
            {
                continue;
            }
            schemas.push(schema);
            let reference = schema.get("$ref").and_then(Value::as_str);
            open.extend(
                reference
                    .and_then(|to| to.strip_prefix('#'))
                    .and_then(|to| root.pointer(to)),
            );
            for combination in ["allOf", "anyOf", "oneOf"] {
                open.extend(
                    schema
                        .get(combination)
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten(),
                );
            }
        }
        Place { root, schemas }
    }

    /// The place of an object's property.
    pub(super) fn property(&self, name: &str) -> Place<'s> {
        let named = |schema: &&'s Value| {
            let declared = schema
                .get("properties")
                .and_then(|properties| properties.get(name));
            declared.or_else(|| {
                schema
                    .get("additionalProperties")
                    .filter(|other| other.is_object())
            })
        };
        Place::of(self.root, self.schemas.iter().filter_map(named).collect())
    }

    /// Whether the schema says anything about this place.
    pub(super) fn is_known(&self) -> bool {
        !self.schemas.is_empty()
    }

    /// The place of an array's items.
    pub(super) fn item(&self) -> Place<'s> {
        let items = self.schemas.iter().filter_map(|schema| schema.get("items"));
        Place::of(self.root, items.collect())
    }

    /// Whether a value of a JSON type may stand here; false if nothing says so.
    pub(super) fn takes(&self, name: &str) -> bool {
        let says = |schema: &Value| match schema.get("type") {
            Some(Value::String(one)) => one == name,
            Some(Value::Array(several)) => several.iter().any(|one| one == name),
            _ => {
                let listed = schema
                    .get("enum")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                name == "string" && listed.chain(schema.get("const")).any(Value::is_string)
            }
        };
        self.schemas.iter().any(|schema| says(schema))
    }

    /// Whether the value must not be printed: `writeOnly` or `format: password`, the two ways
    /// in which JSON Schema and OpenAPI mark a secret.
    pub(super) fn is_secret(&self) -> bool {
        self.schemas.iter().any(|schema| {
            schema.get("writeOnly") == Some(&Value::Bool(true))
                || schema.get("format").and_then(Value::as_str) == Some("password")
        })
    }

    /// Whether the place takes a text of this `format`.
    pub(super) fn has_format(&self, format: &str) -> bool {
        let formats = self
            .schemas
            .iter()
            .filter_map(|schema| schema.get("format"));
        formats.filter_map(Value::as_str).any(|own| own == format)
    }

    /// The names of the declared properties.
    pub(super) fn property_names(&self) -> Vec<&'s str> {
        let objects = self
            .schemas
            .iter()
            .filter_map(|schema| schema.get("properties")?.as_object());
        objects
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect()
    }

    /// The place behind a JSON pointer.
    pub(super) fn at(&self, pointer: &str) -> Place<'s> {
        pointer
            .split('/')
            .skip(1)
            .fold(self.clone(), |place, step| {
                let property = place.property(&step.replace("~1", "/").replace("~0", "~"));
                match !property.is_known() && step.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => place.item(),
                    false => property,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn follows_references_options_and_items() {
        let schema = json!({
            "properties": {
                "batch": {"anyOf": [{"$ref": "#/$defs/Batch"}, {"type": "null"}]},
                "urls": {"type": "array", "items": {"type": "string"}},
                "password": {"type": ["string", "null"], "writeOnly": true}
            },
            "$defs": {"Batch": {"properties": {"records": {"type": "integer"}}}}
        });
        let root = Place::root(&schema);
        assert!(root.at("/batch/records").takes("integer"));
        assert!(!root.at("/batch/records").takes("string"));
        assert!(root.at("/urls/3").takes("string"));
        assert!(root.at("/password").is_secret());
        assert_eq!(root.at("/batch").property_names(), ["records"]);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#"});
        assert!(!Place::root(&schema).takes("string"));
        let tree = json!({"properties": {"next": {"$ref": "#"}}});
        assert_eq!(
            Place::root(&tree).at("/next/next/next").property_names(),
            ["next"]
        );
    }
}
