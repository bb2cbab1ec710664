//! A plugin that passes records on and panics at those whose value is `panic`.

use weir_plugin_sdk::*;

/// Whether there is state to lose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Says that it keeps state for each partition.
    stateful: bool,
}

struct Unsteady;

impl Transform for Unsteady {
    type Config = Settings;

    fn describe(config: &Settings) -> TransformDescription {
        let scope = if config.stateful {
            Scope::Partition
        } else {
            Scope::Record
        };
        TransformDescription {
            scope,
            timers: false,
        }
    }

    fn new(_config: Settings, _context: &Context) -> Result<Self, Error> {
        Ok(Unsteady)
    }

    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        assert!(record.value() != Some(b"panic"), "the record says so");
        out.emit(record);
        Ok(())
    }
}

export_plugins! { transform "unsteady" => Unsteady: "Panics when a record tells it to" }
