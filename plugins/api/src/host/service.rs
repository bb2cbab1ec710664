use abi_stable::extern_fn_panic_handling;
use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::RStr;

use crate::HostHandle;
use crate::service::{HostVt, HostVtRef};

/// What a plugin may ask of its host. Implementations do not panic.
pub trait HostService: Send + Sync + 'static {
    /// `level` is one of [`crate::log_level`].
    fn log(&self, level: u32, message: &str);
    /// Wall clock, unix milliseconds.
    fn clock_ms(&self) -> i64;
}

unsafe extern "C" fn log(context: *const (), level: u32, message: RStr<'_>) {
    extern_fn_panic_handling! {
        // SAFETY: only `host_handle` pairs this function with a context, and it leaks one of this type.
        unsafe { &*context.cast::<Box<dyn HostService>>() }.log(level, message.as_str())
    }
}

unsafe extern "C" fn clock_ms(context: *const ()) -> i64 {
    extern_fn_panic_handling! {
        // SAFETY: as in `log`.
        unsafe { &*context.cast::<Box<dyn HostService>>() }.clock_ms()
    }
}

static HOST_VT: &WithMetadata<HostVt> = &WithMetadata::new(HostVt { log, clock_ms });

/// Makes a handle. The service is leaked, for a plugin's own threads may use it at any time: make one per node and
/// task and use it again for every instance.
pub fn host_handle(service: impl HostService) -> HostHandle {
    let service: Box<dyn HostService> = Box::new(service);
    let context: *const Box<dyn HostService> = Box::into_raw(Box::new(service));
    // SAFETY: the context lives for ever, is `Sync`, and is what the functions of `HOST_VT` expect.
    unsafe { HostHandle::new(context.cast(), HostVtRef(HOST_VT.static_as_prefix())) }
}
