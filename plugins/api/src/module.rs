use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RResult, RSlice, RStr, RString, RVec};

use crate::{HostHandle, PluginError, SinkBox, TransformBox};

/// Values of `PluginDecl::kind`.
pub mod plugin_kind {
    pub const TRANSFORM: u32 = 1;
    pub const SINK: u32 = 2;
}

/// Values of `Description::scope`: whose records a result depends on.
pub mod scope {
    /// One record: stateless.
    pub const RECORD: u32 = 1;
    /// The records of one partition.
    pub const PARTITION: u32 = 2;
    /// The records of all partitions.
    pub const PIPELINE: u32 = 3;
}

/// Values of `Description::replay`: what writing a record again does to a sink's target.
pub mod replay {
    pub const IDEMPOTENT: u32 = 1;
    pub const DUPLICATES: u32 = 2;
}

/// What the host must know of an instance before it makes one; a function of its configuration.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// One of [`scope`]; meaningless for a sink.
    pub scope: u32,
    /// 1: wants watermarks and timers; the host then tracks event time.
    pub timers: u32,
    /// One of [`replay`]; meaningless for a transform.
    pub replay: u32,
}

#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct ConfigError {
    /// JSON pointer to the setting (`/batch/records`), empty for the whole.
    pub path: RString,
    pub message: RString,
}

/// Values of `TargetFinding::severity`.
pub mod severity {
    /// Nothing can be written until it is repaired.
    pub const ERROR: u32 = 1;
    /// It may do harm later.
    pub const WARNING: u32 = 2;
}

/// What a sink found out about its target.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct TargetFinding {
    /// One of [`severity`].
    pub severity: u32,
    /// One sentence of cause.
    pub message: RString,
    /// One sentence of cure.
    pub help: RString,
}

/// Who the instance is.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct CreateContext<'a> {
    pub host: HostHandle,
    pub pipeline: RStr<'a>,
    pub node: RStr<'a>,
    pub task: u32,
}

/// One plugin of a library. Grows at its tail.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginDeclRef)))]
pub struct PluginDecl {
    pub name: RStr<'static>,
    pub version: RStr<'static>,
    pub description: RStr<'static>,
    /// One of [`plugin_kind`].
    pub kind: u32,
    /// JSON Schema of the configuration.
    pub config_schema: extern "C" fn() -> RResult<RString, PluginError>,
    /// Configuration as JSON in, every error out.
    pub validate: extern "C" fn(RStr<'_>) -> RResult<RVec<ConfigError>, PluginError>,
    pub describe: extern "C" fn(RStr<'_>) -> RResult<Description, PluginError>,
    /// Asks the target of a sink, over the network and for some seconds at most, whether it can be written as configured.
    pub check_target: extern "C" fn(RStr<'_>) -> RResult<RVec<TargetFinding>, PluginError>,
    pub create_transform:
        ROption<extern "C" fn(RStr<'_>, &CreateContext<'_>) -> RResult<TransformBox, PluginError>>,
    #[sabi(last_prefix_field)]
    pub create_sink:
        ROption<extern "C" fn(RStr<'_>, &CreateContext<'_>) -> RResult<SinkBox, PluginError>>,
}

/// What a library exports. Grows at its tail.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef)))]
pub struct PluginModule {
    /// `API_VERSION` of the plugin's build.
    pub api_version: RStr<'static>,
    /// The same bytes as the manifest section; the reference keeps the linker from dropping the section.
    pub manifest: RSlice<'static, u8>,
    #[sabi(last_prefix_field)]
    pub plugins: RSlice<'static, PluginDeclRef>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "weir_plugin";
    const NAME: &'static str = "weir_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
