use abi_stable::StableAbi;
use abi_stable::std_types::RStr;

/// Values of `level` in [`HostHandle::log`].
pub mod log_level {
    pub const ERROR: u32 = 1;
    pub const WARN: u32 = 2;
    pub const INFO: u32 = 3;
    pub const DEBUG: u32 = 4;
}

/// Services that the host gives to a plugin. Grows at its tail.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostVtRef)))]
#[sabi(missing_field(panic))]
pub struct HostVt {
    pub log: unsafe extern "C" fn(*const (), u32, RStr<'_>),
    /// The host's wall clock, unix milliseconds (it stands still in golden tests).
    #[sabi(last_prefix_field)]
    pub clock_ms: unsafe extern "C" fn(*const ()) -> i64,
}

/// A plugin instance's way to the host: valid for ever, usable from any thread.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostHandle {
    context: *const (),
    vt: HostVtRef,
}

// SAFETY: `new` takes a context that is shareable and lives for ever.
unsafe impl Send for HostHandle {}
// SAFETY: as above.
unsafe impl Sync for HostHandle {}

impl HostHandle {
    /// # Safety
    /// `context` is valid for ever, may be used from any thread at once, and is what `vt`'s functions expect.
    pub(crate) const unsafe fn new(context: *const (), vt: HostVtRef) -> Self {
        HostHandle { context, vt }
    }

    /// Writes a line to the host's log; the host adds pipeline, task and node. `level` is one of [`log_level`].
    pub fn log(&self, level: u32, message: &str) {
        // SAFETY: `new` paired context and table.
        unsafe { (self.vt.log())(self.context, level, message.into()) }
    }

    /// The host's wall clock, unix milliseconds.
    pub fn clock_ms(&self) -> i64 {
        // SAFETY: `new` paired context and table.
        unsafe { (self.vt.clock_ms())(self.context) }
    }
}
