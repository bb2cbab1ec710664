//! A plugin that passes records on and panics at those whose value is `panic`, or whenever time passes.

use weir_plugin_sdk::*;

/// Whether there is state to lose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Says that it keeps state for each partition.
    stateful: bool,
    /// Panics at every watermark, whatever the records are.
    #[serde(default)]
    always: bool,
}

struct Unsteady {
    always: bool,
}

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
            timers: config.always,
        }
    }

    fn new(config: Settings, _context: &Context) -> Result<Self, Error> {
        Ok(Unsteady {
            always: config.always,
        })
    }

    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        assert!(record.value() != Some(b"panic"), "the record says so");
        out.emit(record);
        Ok(())
    }

    fn on_watermark<'b>(
        &mut self,
        _watermark: Watermark,
        _out: &mut Out<'_, 'b>,
    ) -> Result<(), Error> {
        assert!(!self.always, "whatever the records are");
        Ok(())
    }
}

export_plugins! { transform "unsteady" => Unsteady: "Panics when a record tells it to" }
