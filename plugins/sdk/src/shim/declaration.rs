use serde::de::DeserializeOwned;
use weir_plugin_api::abi_stable::std_types::{RResult, RStr, RString, RVec};
use weir_plugin_api::{ConfigError, Description, PluginError, TargetFinding, replay, scope};

use super::guard::guard;
use super::{fatal, plugin_error};
use crate::{Error, Errors, Findings, Replay, Scope, Sink, Transform};

pub extern "C" fn schema<C: schemars::JsonSchema>() -> RResult<RString, PluginError> {
    guard(|| serde_json::to_string(&schemars::schema_for!(C)))
        .and_then(|text| text.map_err(|error| fatal("plugin.schema", error.to_string())))
        .map(RString::from)
        .into()
}

/// The configuration, or what is wrong with it, as (JSON pointer, message).
fn parse<C: DeserializeOwned>(json: &str) -> Result<C, (String, String)> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => {
                    pointer.push_str(&format!("/{index}"))
                }
                serde_path_to_error::Segment::Map { key } => {
                    pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")));
                }
                _ => {}
            }
        }
        let message = error.inner().to_string();
        // serde_json adds a position in the JSON text, which nobody wrote.
        let message = message
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        (pointer, message)
    })
}

pub(super) fn parse_or_fail<C: DeserializeOwned>(json: &str) -> Result<C, Error> {
    parse(json).map_err(|(pointer, message)| {
        Error::fatal("plugin.config", format!("{pointer}: {message}"))
    })
}

fn validate<C: DeserializeOwned>(
    json: RStr<'_>,
    check: impl FnOnce(&C, &mut Errors),
) -> RResult<RVec<ConfigError>, PluginError> {
    guard(|| {
        let mut errors = Errors::default();
        match parse::<C>(json.as_str()) {
            Ok(config) => check(&config, &mut errors),
            Err(error) => errors.found.push(error),
        }
        let found = errors.found.into_iter();
        found
            .map(|(path, message)| ConfigError {
                path: path.into(),
                message: message.into(),
            })
            .collect()
    })
    .into()
}

pub extern "C" fn validate_transform<T: Transform>(
    json: RStr<'_>,
) -> RResult<RVec<ConfigError>, PluginError> {
    validate::<T::Config>(json, |config, errors| T::validate(config, errors))
}

pub extern "C" fn validate_sink<S: Sink>(
    json: RStr<'_>,
) -> RResult<RVec<ConfigError>, PluginError> {
    validate::<S::Config>(json, |config, errors| S::validate(config, errors))
}

fn describe<C: DeserializeOwned>(
    json: RStr<'_>,
    describe: impl FnOnce(&C) -> Description,
) -> RResult<Description, PluginError> {
    guard(|| {
        parse_or_fail::<C>(json.as_str())
            .map(|config| describe(&config))
            .map_err(plugin_error)
    })
    .and_then(|answer| answer)
    .into()
}

pub extern "C" fn describe_transform<T: Transform>(
    json: RStr<'_>,
) -> RResult<Description, PluginError> {
    describe::<T::Config>(json, |config| {
        let description = T::describe(config);
        let scope = match description.scope {
            Scope::Record => scope::RECORD,
            Scope::Partition => scope::PARTITION,
            Scope::Pipeline => scope::PIPELINE,
        };
        Description {
            scope,
            timers: description.timers.into(),
            replay: replay::IDEMPOTENT,
        }
    })
}

pub extern "C" fn describe_sink<S: Sink>(json: RStr<'_>) -> RResult<Description, PluginError> {
    describe::<S::Config>(json, |config| {
        let replay = match S::replay(config) {
            Replay::Idempotent => replay::IDEMPOTENT,
            Replay::Duplicates => replay::DUPLICATES,
        };
        Description {
            scope: scope::RECORD,
            timers: 0,
            replay,
        }
    })
}

/// A transform has no target.
pub extern "C" fn no_target(_: RStr<'_>) -> RResult<RVec<TargetFinding>, PluginError> {
    RResult::ROk(RVec::new())
}

pub extern "C" fn check_target<S: Sink>(
    json: RStr<'_>,
) -> RResult<RVec<TargetFinding>, PluginError> {
    guard(|| {
        parse_or_fail::<S::Config>(json.as_str())
            .map(|config| {
                let mut findings = Findings::default();
                S::check_target(&config, &mut findings);
                findings.found.into()
            })
            .map_err(plugin_error)
    })
    .and_then(|answer| answer)
    .into()
}
