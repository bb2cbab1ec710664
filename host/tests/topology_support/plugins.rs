//! Plugins as the topology sees them, without libraries: three like the real ones, one of each
//! kind of trouble, and more trouble in a folder called `broken.d`.

use std::path::PathBuf;

use serde_json::{Value, json};
use weir::topology::{
    Describe, Found, PluginConfigError, PluginKind, Plugins, Replay, Scope, UnusableFile,
};

pub struct FakePlugins {
    broken: bool,
}

impl FakePlugins {
    pub fn open(folders: &[PathBuf]) -> FakePlugins {
        FakePlugins {
            broken: folders.iter().any(|folder| folder.ends_with("broken.d")),
        }
    }

    fn kind(&self, name: &str) -> Option<PluginKind> {
        match name {
            "reduce-visit" | "latency-window" | "bad-schema" => Some(PluginKind::Transform),
            "elasticsearch" | "http-post" => Some(PluginKind::Sink),
            "kafka" if self.broken => Some(PluginKind::Sink),
            _ => None,
        }
    }
}

fn old_library() -> PathBuf {
    "broken.d/libold.so".into()
}

const OLD: &str = "it was built for plugin ABI 0.9 and this host speaks 1.0";

fn twins() -> Vec<PathBuf> {
    vec!["broken.d/liba.so".into(), "broken.d/libb.so".into()]
}

fn invalid(path: &str, message: &str) -> Vec<PluginConfigError> {
    vec![PluginConfigError {
        path: path.into(),
        message: message.into(),
    }]
}

impl Plugins for FakePlugins {
    fn find(&self, name: &str) -> Found {
        match (name, self.kind(name)) {
            (_, Some(kind)) => Found::Known { kind },
            ("old", _) if self.broken => Found::Refused {
                file: old_library(),
                reason: OLD.into(),
            },
            ("twin", _) if self.broken => Found::Duplicate { files: twins() },
            _ => Found::Missing,
        }
    }

    fn names(&self, kind: PluginKind) -> Vec<String> {
        let names = [
            "bad-schema",
            "elasticsearch",
            "http-post",
            "latency-window",
            "reduce-visit",
        ];
        names
            .into_iter()
            .filter(|name| self.kind(name) == Some(kind))
            .map(str::to_owned)
            .collect()
    }

    fn unusable(&self) -> Vec<UnusableFile> {
        if !self.broken {
            return Vec::new();
        }
        let twice = "both offer the plugin `twin`";
        vec![
            UnusableFile {
                files: vec![old_library()],
                names: vec!["old".into()],
                reason: OLD.into(),
            },
            UnusableFile {
                files: twins(),
                names: vec!["twin".into()],
                reason: twice.into(),
            },
            UnusableFile {
                files: vec!["broken.d/libnotes.so".into()],
                names: Vec::new(),
                reason: "it is no ELF file".into(),
            },
        ]
    }

    fn schema(&self, name: &str) -> Option<Value> {
        Some(match name {
            "reduce-visit" => json!({
                "type": "object",
                "properties": {"processing_delay": {
                    "type": "string", "pattern": "^(0|[0-9]+ *(ms|s|m|h))$", "format": "weir-duration"
                }},
                "additionalProperties": false
            }),
            "latency-window" => json!({
                "type": "object",
                "properties": {
                    "size": {"type": "string", "pattern": "^(0|[0-9]+ *(ms|s|m|h))$", "format": "weir-duration"},
                    "percentiles": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 100}},
                    "epoch": {"type": "integer", "minimum": 0},
                    "emit": {"oneOf": [{"const": "document", "description": "d"}, {"const": "sketch"}]},
                    "merge": {"type": "boolean"}
                },
                "additionalProperties": false
            }),
            "elasticsearch" => json!({
                "type": "object",
                "properties": {
                    "urls": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    "index": {"type": "string"},
                    "password": {"type": ["string", "null"], "writeOnly": true},
                    "version": {"enum": ["auto", "offset", "none"]},
                    "gzip": {"type": "boolean"},
                    "batch": {"anyOf": [{"$ref": "#/$defs/Batch"}, {"type": "null"}]}
                },
                "required": ["urls", "index"],
                "additionalProperties": false,
                "$defs": {"Batch": {
                    "type": "object",
                    "properties": {"records": {"type": "integer", "minimum": 1}, "bytes": {
                        "type": ["string", "integer"], "format": "weir-byte-size",
                        "pattern": "^(0|[0-9]+ *(B|KiB|MiB|GiB))$"
                    }},
                    "additionalProperties": false
                }}
            }),
            "bad-schema" => json!({"type": 12}),
            _ => return None,
        })
    }

    fn validate(&self, name: &str, config: &Value) -> Vec<PluginConfigError> {
        let delay = config.pointer("/processing_delay").and_then(Value::as_str);
        match (name, delay) {
            ("reduce-visit", Some(delay)) if delay.ends_with('h') => invalid(
                "/processing_delay",
                "is above 10m; no visit takes that long",
            ),
            _ => Vec::new(),
        }
    }

    fn describe(&self, name: &str, config: &Value) -> Result<Describe, Vec<PluginConfigError>> {
        let window = name == "latency-window";
        let emit = config.pointer("/emit").and_then(Value::as_str);
        if config.pointer("/merge") == Some(&Value::Bool(true)) && emit == Some("sketch") {
            return Err(invalid(
                "/merge",
                "`merge: true` reads sketches and cannot emit them.",
            ));
        }
        Ok(Describe {
            scope: match (window, emit) {
                (true, Some("sketch")) => Scope::Partition,
                (true, _) => Scope::Pipeline,
                (false, _) => Scope::Record,
            },
            timers: window,
            replay: if name == "http-post" {
                Replay::Duplicates
            } else {
                Replay::Idempotent
            },
        })
    }
}
