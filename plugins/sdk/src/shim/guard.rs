use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

use weir_plugin_api::{PluginError, error_kind};

thread_local! {
    /// Message and place of the newest panic of this thread, as the hook saw it.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Replaces this library's panic hook by one that keeps message, file and line for [`guard`] and prints nothing. Each
/// library has its own copy of std, hence its own hook. Only the exported module calls it, never a test binary.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        set_hook(Box::new(|info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let place = info
                .location()
                .map(|at| format!(" at {}:{}", at.file(), at.line()))
                .unwrap_or_default();
            let message = format!(
                "{}{place}",
                text.unwrap_or("panic with a payload that is no text")
            );
            // A panic inside a thread-local's destructor finds the cell gone; then the text is lost, not the process.
            let _ = LAST_PANIC.try_with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = Some(message);
                }
            });
        }));
    });
}

/// Runs a plugin's code; a panic becomes an error that names the plugin's file and line.
pub(crate) fn guard<R>(call: impl FnOnce() -> R) -> Result<R, PluginError> {
    // Unwind safety: after a panic the host drops the instance, nothing looks at its state again.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let kept =
            LAST_PANIC.try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| last.take()));
        let message = kept
            .ok()
            .flatten()
            .unwrap_or_else(|| text_of(payload.as_ref()));
        // Dropping a payload may run code of the plugin's choosing that panics again.
        std::mem::forget(payload);
        PluginError {
            kind: error_kind::PANIC,
            retry_after_ms: 0,
            code: "plugin.panic".into(),
            message: message.into(),
        }
    })
}

/// Where no hook of ours is installed (a test binary), the payload is all there is.
fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

/// An instance whose destructor may panic.
pub(crate) struct Guarded<T>(std::mem::ManuallyDrop<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Guarded(std::mem::ManuallyDrop::new(value))
    }
}

impl<T> std::ops::Deref for Guarded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // A panic in a plugin's destructor would end the process at the boundary; it is swallowed, for nobody is left
        // to report it to.
        // SAFETY: `drop` runs once and nothing reads the value afterwards.
        let _ = guard(|| unsafe { std::mem::ManuallyDrop::drop(&mut self.0) });
    }
}
