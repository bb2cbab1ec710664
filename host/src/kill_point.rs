//! Places at which a test ends the process (SIGKILL, as a lost machine would), to prove the invariants that the places
//! are named after. Without the feature `kill-points` they are empty functions.
//!
//! `WEIR_KILL_AT=name` ends the process when it first comes to the place, `name:3` the third time. `WEIR_STOP_AT` makes it
//! stand still there (SIGSTOP), as a machine does that is suspended, until somebody continues it.

#[cfg(not(feature = "kill-points"))]
use std::time::Duration;

/// Every place, in the order of a commit; `dev/tests/end_to_end/kill_points.rs` visits them all.
pub const KILL_POINTS: &[&str] = &[
    "before_flush",
    "after_flush",
    "in_transaction",
    "checkpoint_written",
    "after_offsets_sent",
    "during_commit",
    "after_commit",
    "in_revoke",
    "in_restore",
    "in_take_over",
];

/// Ends the process here if it was asked to.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub fn kill_point(_name: &'static str) {}

/// Ends the process within `delay_max` if it was asked to, while the caller goes on.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub fn kill_during(_name: &'static str, _delay_max: Duration) {}

#[cfg(feature = "kill-points")]
pub use armed::{kill_during, kill_point};

#[cfg(feature = "kill-points")]
mod armed {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    static VISITS: AtomicU32 = AtomicU32::new(0);

    /// Ends the process here, or stops it, if it was asked to.
    pub fn kill_point(name: &'static str) {
        if is_due("WEIR_KILL_AT", name) {
            send(Signal::KILL);
        }
        if is_due("WEIR_STOP_AT", name) {
            send(Signal::STOP);
        }
    }

    /// Ends the process within `delay_max` if it was asked to, while the caller goes on.
    pub fn kill_during(name: &'static str, delay_max: Duration) {
        if !is_due("WEIR_KILL_AT", name) {
            return;
        }
        let delay = delay_max.mul_f64(fastrand::f64());
        thread::spawn(move || {
            thread::sleep(delay);
            send(Signal::KILL);
        });
    }

    fn is_due(variable: &str, name: &str) -> bool {
        let Ok(wanted) = std::env::var(variable) else {
            return false;
        };
        let (place, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        let is_here = place == name;
        is_here && VISITS.fetch_add(1, Ordering::Relaxed) + 1 == nth.parse().unwrap_or(1)
    }

    fn send(signal: Signal) {
        let _ = kill_process(getpid(), signal);
    }
}
