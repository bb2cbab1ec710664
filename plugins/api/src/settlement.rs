use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RString, RVec};

/// Values of `Settled::verdict`.
pub mod verdict {
    /// The target has the record, durably.
    pub const STORED: u32 = 1;
    /// The target holds an equal or newer version.
    pub const SUPERSEDED: u32 = 2;
}

/// A record the target took.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub seq: u64,
    /// One of [`verdict`].
    pub verdict: u32,
}

/// A record the target refused for good.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Rejection {
    pub seq: u64,
    /// Stable dotted code, `plugin.reason`.
    pub code: RString,
    /// One sentence that names the field or the limit.
    pub message: RString,
    /// The chain of causes, or empty.
    pub detail: RString,
}

/// Errors met on the way to a verdict, for the host's metrics.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct SinkErrorCount {
    /// A small fixed set of names chosen by the sink, such as `overload`.
    pub class: RString,
    pub count: u64,
}

/// Host-owned, filled by the sink: one verdict per accepted record, in any order.
#[repr(C)]
#[derive(StableAbi, Default)]
pub struct Settlements {
    pub settled: RVec<Settled>,
    pub rejections: RVec<Rejection>,
    pub errors: RVec<SinkErrorCount>,
    /// Why the sink cannot make progress now; `RNone` = it can. Kept by the host between calls.
    pub unavailable: ROption<RString>,
}
