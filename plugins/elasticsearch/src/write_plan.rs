//! What a record does to its document, and which combinations of settings cannot be done safely.

use weir_plugin_sdk::{Deserialize, Errors, JsonSchema};

use crate::config::ElasticsearchConfig;
use crate::sources::{IdSource, RoutingSource, VersionSource};

/// What a record with a value does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum WriteMethod {
    #[default]
    Index,
    Create,
    Upsert,
}

/// What a record with a null value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TombstonePolicy {
    #[default]
    Reject,
    Delete,
}

/// What a document means that is there already when it should be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ConflictPolicy {
    #[default]
    Supersede,
    Reject,
}

/// The action line's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Index,
    Create,
    /// A partial document that is stored whole where there is none.
    Update,
    Delete,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Index => "index",
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        }
    }
}

/// The settings that say what a record does, with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct WritePlan {
    pub(crate) action: Action,
    pub(crate) deletes: bool,
    pub(crate) id: IdSource,
    pub(crate) version: VersionSource,
    pub(crate) routing: RoutingSource,
    /// A document without `@timestamp` gets the record's.
    pub(crate) fills_timestamp: bool,
}

impl WritePlan {
    pub(crate) fn of(config: &ElasticsearchConfig) -> Self {
        let action = match method(config) {
            WriteMethod::Index => Action::Index,
            WriteMethod::Create => Action::Create,
            WriteMethod::Upsert => Action::Update,
        };
        let versioned = action == Action::Index && config.id != IdSource::Auto;
        WritePlan {
            action,
            deletes: config.tombstones == TombstonePolicy::Delete,
            id: config.id.clone(),
            version: match versioned {
                true => config.version.clone(),
                false => VersionSource::None,
            },
            routing: config.routing.clone(),
            fills_timestamp: config.data_stream,
        }
    }
}

fn method(config: &ElasticsearchConfig) -> WriteMethod {
    config.write.unwrap_or(match config.data_stream {
        true => WriteMethod::Create,
        false => WriteMethod::Index,
    })
}

/// True if a record that is sent again changes neither a document nor what becomes of the record.
pub(crate) fn is_idempotent(config: &ElasticsearchConfig) -> bool {
    config.id != IdSource::Auto && config.on_conflict == ConflictPolicy::Supersede
}

/// Adds what cannot be done safely, each with its reason.
pub(crate) fn check(config: &ElasticsearchConfig, errors: &mut Errors) {
    let method = method(config);
    check_ids(config, method, errors);
    check_versions(config, method, errors);
    check_tombstones(config, method, errors);
    errors.check(
        !config.data_stream || method == WriteMethod::Create,
        "write",
        "must be `create` for a data stream, which takes no other write; leave it out",
    );
    errors.check(
        !(config.data_stream && config.require_alias),
        "require_alias",
        "cannot stand beside `data_stream: true`: a data stream is no alias",
    );
    errors.check(
        config.on_conflict == ConflictPolicy::Supersede || method == WriteMethod::Create,
        "on_conflict",
        "is for `write: create` only; another write meets no document that is in its way",
    );
}

fn check_ids(config: &ElasticsearchConfig, method: WriteMethod, errors: &mut Errors) {
    let auto = config.id == IdSource::Auto;
    errors.check(
        !auto || config.allow_duplicates,
        "id",
        "cannot be `auto`: a record that is sent again becomes a second document; choose another source of ids, or accept that with `allow_duplicates: true`",
    );
    errors.check(
        auto || !config.allow_duplicates,
        "allow_duplicates",
        "is for `id: auto` only; with other ids no record becomes two documents",
    );
    errors.check(
        !auto || method != WriteMethod::Upsert,
        "id",
        "cannot be `auto` with `write: upsert`, which has to find its document",
    );
}

fn check_versions(config: &ElasticsearchConfig, method: WriteMethod, errors: &mut Errors) {
    let chosen = !matches!(config.version, VersionSource::Auto | VersionSource::None);
    if !chosen {
        return;
    }
    if method != WriteMethod::Index {
        errors.add(
            "version",
            "is for `write: index` only: Elasticsearch takes no external version with another write, nor in a data stream; leave it out",
        );
    } else if config.id == IdSource::Auto {
        errors.add(
            "version",
            "needs an id of the record's own; with `id: auto` leave it out",
        );
    }
}

fn check_tombstones(config: &ElasticsearchConfig, method: WriteMethod, errors: &mut Errors) {
    if config.tombstones == TombstonePolicy::Reject {
        return;
    }
    let reason = if config.data_stream {
        "cannot be `delete` for a data stream, which deletes no single document"
    } else if method == WriteMethod::Create {
        "cannot be `delete` with `write: create`: a record that is sent again would bring the deleted document back"
    } else if matches!(config.id, IdSource::Field(_)) {
        "cannot be `delete` with `id: field:...`: a null value has no fields"
    } else if matches!(config.id, IdSource::Coordinates | IdSource::Auto) {
        "cannot be `delete` with this `id`: a null value has coordinates of its own, so no id names the document to delete"
    } else if matches!(config.routing, RoutingSource::Field(_)) {
        "cannot be `delete` with `routing: field:...`: a null value has no fields, so its document's shard is not known"
    } else if config.index.has_date() {
        "cannot be `delete` with a date in `index`: the null value's own date may be another than its document's"
    } else {
        return;
    };
    errors.add("tombstones", reason);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(changes: Value) -> ElasticsearchConfig {
        let mut config = json!({ "urls": ["http://localhost:9200"], "index": "visits" });
        if let (Some(config), Value::Object(changes)) = (config.as_object_mut(), changes) {
            config.extend(changes);
        }
        serde_json::from_value(config).expect("readable")
    }

    fn refused_paths(changes: Value) -> Vec<String> {
        let mut errors = Errors::default();
        check(&config(changes), &mut errors);
        errors.iter().map(|(path, _)| path.to_owned()).collect()
    }

    #[test]
    fn case_49_ids_of_the_server_need_a_word_about_duplicates() {
        assert_eq!(refused_paths(json!({ "id": "auto" })), ["/id"]);
        assert!(refused_paths(json!({ "id": "auto", "allow_duplicates": true })).is_empty());
        assert_eq!(
            refused_paths(json!({ "allow_duplicates": true })),
            ["/allow_duplicates"]
        );
        assert!(!is_idempotent(&config(
            json!({ "id": "auto", "allow_duplicates": true })
        )));
        assert!(is_idempotent(&config(json!({}))));
        assert!(!is_idempotent(&config(
            json!({ "write": "create", "on_conflict": "reject" })
        )));
    }

    #[test]
    fn case_44_a_data_stream_takes_nothing_but_create() {
        assert!(refused_paths(json!({ "data_stream": true })).is_empty());
        assert!(refused_paths(json!({ "data_stream": true, "write": "create" })).is_empty());
        for (changes, path) in [
            (json!({ "write": "index" }), "/write"),
            (json!({ "write": "upsert" }), "/write"),
            (json!({ "tombstones": "delete" }), "/tombstones"),
            (json!({ "version": "offset" }), "/version"),
            (json!({ "require_alias": true }), "/require_alias"),
        ] {
            let mut changes = changes;
            changes["data_stream"] = json!(true);
            assert_eq!(refused_paths(changes.clone()), [path], "{changes}");
        }
    }

    #[test]
    fn what_cannot_be_done_safely_is_refused() {
        for (changes, path) in [
            (
                json!({ "write": "create", "version": "timestamp" }),
                "/version",
            ),
            (
                json!({ "write": "upsert", "version": "header:v" }),
                "/version",
            ),
            (
                json!({ "write": "upsert", "id": "auto", "allow_duplicates": true }),
                "/id",
            ),
            (
                json!({ "id": "auto", "allow_duplicates": true, "version": "offset" }),
                "/version",
            ),
            (json!({ "on_conflict": "reject" }), "/on_conflict"),
            (
                json!({ "tombstones": "delete", "write": "create" }),
                "/tombstones",
            ),
            (
                json!({ "tombstones": "delete", "id": "field:/a" }),
                "/tombstones",
            ),
            (
                json!({ "tombstones": "delete", "id": "coordinates" }),
                "/tombstones",
            ),
            (
                json!({ "tombstones": "delete", "routing": "field:/a" }),
                "/tombstones",
            ),
            (
                json!({ "tombstones": "delete", "index": "v-{%Y}" }),
                "/tombstones",
            ),
        ] {
            assert_eq!(refused_paths(changes.clone()), [path], "{changes}");
        }
        for changes in [
            json!({ "tombstones": "delete" }),
            json!({ "tombstones": "delete", "write": "upsert", "id": "header:i" }),
            json!({ "tombstones": "delete", "index": "v-{topic}", "routing": "key" }),
            json!({ "write": "create", "id": "coordinates", "version": "none" }),
        ] {
            assert!(refused_paths(changes.clone()).is_empty(), "{changes}");
        }
    }

    #[test]
    fn the_plan_fills_in_the_defaults() {
        let plan = |changes| WritePlan::of(&config(changes));
        assert_eq!(plan(json!({})).action, Action::Index);
        assert_eq!(plan(json!({})).version, VersionSource::Auto);
        let stream = plan(json!({ "data_stream": true }));
        assert_eq!(
            (stream.action, stream.version),
            (Action::Create, VersionSource::None)
        );
        assert!(stream.fills_timestamp);
        let upsert = plan(json!({ "write": "upsert", "tombstones": "delete" }));
        assert_eq!(
            (upsert.action, upsert.version, upsert.deletes),
            (Action::Update, VersionSource::None, true)
        );
    }
}
