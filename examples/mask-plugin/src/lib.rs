use serde_json::{Map, Value};
use weir_plugin_sdk::*;

/// Hides fields of JSON objects.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mask {
    /// Names of the fields whose values become `"***"`.
    fields: Vec<String>,
}

impl SimpleTransform for Mask {
    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(record.value().unwrap_or_default())?;
        for field in &self.fields {
            if let Some(value) = object.get_mut(field) {
                *value = "***".into();
            }
        }
        let masked = out.copy(&serde_json::to_vec(&object)?);
        out.emit(record.with_value(masked));
        Ok(())
    }
}

export_plugins! { transform "mask" => Mask: "Hides fields of JSON objects" }
