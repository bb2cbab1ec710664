//! The catalog as the topology sees it.

use serde_json::Value;

use crate::plugin::{Catalog, Found, Kind, Refused, Replay, Scope};
use crate::topology::{self, PluginConfigError, PluginKind};

fn kind_of(kind: Kind) -> PluginKind {
    match kind {
        Kind::Transform => PluginKind::Transform,
        Kind::Sink => PluginKind::Sink,
    }
}

fn whole(refused: Refused) -> PluginConfigError {
    PluginConfigError {
        path: String::new(),
        message: refused.reason,
    }
}

impl topology::Plugins for Catalog {
    fn find(&self, name: &str) -> topology::Found {
        match Catalog::find(self, name) {
            Found::Known(kind) => topology::Found::Known {
                kind: kind_of(kind),
            },
            Found::Refused(refused) => topology::Found::Refused {
                file: refused.file,
                reason: refused.reason,
            },
            Found::Duplicate(files) => topology::Found::Duplicate { files },
            Found::Missing => topology::Found::Missing,
        }
    }

    fn names(&self, kind: PluginKind) -> Vec<String> {
        Catalog::names(
            self,
            match kind {
                PluginKind::Transform => Kind::Transform,
                PluginKind::Sink => Kind::Sink,
            },
        )
    }

    fn unusable(&self) -> Vec<topology::UnusableFile> {
        let files = Catalog::unusable(self).into_iter();
        files
            .map(|unusable| topology::UnusableFile {
                files: unusable.files,
                names: unusable.names,
                reason: unusable.reason,
            })
            .collect()
    }

    fn schema(&self, name: &str) -> Option<Value> {
        Catalog::schema(self, name).ok()
    }

    fn validate(&self, name: &str, config: &Value) -> Vec<PluginConfigError> {
        match Catalog::validate(self, name, config) {
            Ok(errors) => errors
                .into_iter()
                .map(|error| PluginConfigError {
                    path: error.path,
                    message: error.message,
                })
                .collect(),
            Err(refused) => vec![whole(refused)],
        }
    }

    fn describe(
        &self,
        name: &str,
        config: &Value,
    ) -> Result<topology::Describe, Vec<PluginConfigError>> {
        let description =
            Catalog::describe(self, name, config).map_err(|refused| vec![whole(refused)])?;
        Ok(topology::Describe {
            scope: match description.scope {
                Scope::Record => topology::Scope::Record,
                Scope::Partition => topology::Scope::Partition,
                Scope::Pipeline => topology::Scope::Pipeline,
            },
            timers: description.timers,
            replay: match description.replay {
                Replay::Idempotent => topology::Replay::Idempotent,
                Replay::Duplicates => topology::Replay::Duplicates,
            },
        })
    }
}
