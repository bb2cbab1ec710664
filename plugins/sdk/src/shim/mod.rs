//! The hidden half of the SDK: turns safe traits into the objects and declarations of the ABI. Every entry point
//! catches panics, destructors included.

mod declaration;
mod guard;
mod sink;
mod transform;

pub use declaration::{
    check_target, describe_sink, describe_transform, no_target, schema, validate_sink,
    validate_transform,
};
pub use guard::install_panic_hook;
pub use sink::create_sink;
pub(crate) use sink::sink_object;
pub use transform::create_transform;
pub(crate) use transform::transform_object;

use weir_plugin_api::abi_stable::std_types::RString;
use weir_plugin_api::{CreateContext, PluginError, error_kind};

use crate::{Context, Error};

/// Version of `rustc` that built the SDK, and with it the plugin.
pub const RUSTC: &str = env!("WEIR_SDK_RUSTC");
/// Version of the SDK.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn context(create: &CreateContext<'_>) -> Context {
    Context {
        host: create.host,
        pipeline: create.pipeline.as_str().to_owned(),
        node: create.node.as_str().to_owned(),
        task: create.task,
    }
}

/// The error of a call that has no record to blame: a record error there is fatal.
pub(crate) fn plugin_error(error: Error) -> PluginError {
    match error {
        Error::Record {
            code,
            message,
            detail,
        } => {
            let message = if detail.is_empty() {
                message
            } else {
                format!("{message}: {detail}")
            };
            fatal(code, message)
        }
        Error::Retryable {
            message,
            retry_after,
        } => PluginError {
            kind: error_kind::RETRYABLE,
            retry_after_ms: retry_after.map_or(0, |wait| {
                u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
            }),
            code: "plugin.retryable".into(),
            message: message.into(),
        },
        Error::Fatal { code, message } => fatal(code, message),
    }
}

pub(crate) fn fatal(code: impl Into<RString>, message: impl Into<RString>) -> PluginError {
    PluginError {
        kind: error_kind::FATAL,
        retry_after_ms: 0,
        code: code.into(),
        message: message.into(),
    }
}
