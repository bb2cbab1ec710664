use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RString};

/// Values of `PluginError::kind`. Numbers, since an unknown enum value from a newer side would be undefined
/// behaviour; an unknown kind counts as fatal.
pub mod error_kind {
    /// Try the same call again after `retry_after_ms`.
    pub const RETRYABLE: u32 = 1;
    /// The task cannot go on with this plugin.
    pub const FATAL: u32 = 2;
    /// The plugin panicked: its state is no longer trusted.
    pub const PANIC: u32 = 3;
    /// A snapshot could not be read.
    pub const STATE: u32 = 4;
}

/// Why a call failed as a whole. What is wrong with one record is a [`crate::Failure`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct PluginError {
    /// One of [`error_kind`].
    pub kind: u32,
    /// For [`error_kind::RETRYABLE`]; 0 = the host chooses.
    pub retry_after_ms: u64,
    /// Stable dotted code, `plugin.reason`.
    pub code: RString,
    /// One sentence; for a panic with file and line.
    pub message: RString,
}

/// Answer of `process` and `write`: records `0..records` of the batch are done, and no output belongs to a record at
/// or beyond. A transform answers 0 for a batch that holds records only together with an error; from a sink 0
/// without an error means that it is full.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Consumed {
    pub records: usize,
    pub error: ROption<PluginError>,
}

impl Consumed {
    pub const fn ok(records: usize) -> Self {
        Consumed {
            records,
            error: ROption::RNone,
        }
    }
}
