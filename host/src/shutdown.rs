//! SIGTERM and SIGINT: the first one drains, the second one ends the process at once. The death of the supervisor
//! drains, too.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals as SignalStream;

use crate::log;

/// The exit code of a process that did not drain.
const EXIT_FAILED: i32 = 1;

/// What the kernel sends a host when its supervisor has died. Not SIGTERM: the kernel sends it once for every thread
/// that the supervisor had, and a second SIGTERM would end the host before it has drained.
const SUPERVISOR_DIED: i32 = SIGUSR1;

/// Whether the process was asked to end. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_draining: AtomicBool,
    began: Mutex<bool>,
    begins: Condvar,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT, and SIGUSR1 for [`end_with_parent`], for the rest of the process's life. From
    /// the first one the process has `drain_timeout` to end by itself; after that, and on a second signal, it ends with exit code 1 and says why in
    /// its last line on stderr.
    ///
    /// # Errors
    /// The operating system gives no signal handler or no thread.
    pub fn install(drain_timeout: Duration) -> io::Result<Self> {
        let signals = Self::default();
        let of_thread = signals.clone();
        let mut stream = SignalStream::new([SIGTERM, SIGINT, SUPERVISOR_DIED])?;
        thread::Builder::new()
            .name("weir-signals".to_owned())
            .spawn(move || {
                for signal in stream.forever() {
                    of_thread.receive(signal, drain_timeout);
                }
            })?;
        Ok(signals)
    }

    /// Whether a first signal came. One relaxed load: a task may ask between batches.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Relaxed)
    }

    /// Begins to drain without a signal. Nothing happens the second time.
    pub fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Relaxed);
        *self
            .shared
            .began
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.begins.notify_all();
    }

    /// Waits for the drain to begin, at most for `timeout`, and says whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        let began = self
            .shared
            .began
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (began, _) = self
            .shared
            .begins
            .wait_timeout_while(began, timeout, |began| !*began)
            .unwrap_or_else(PoisonError::into_inner);
        *began
    }

    fn receive(&self, signal: i32, drain_timeout: Duration) {
        match (signal, self.is_draining()) {
            (SUPERVISOR_DIED, true) => return,
            (SUPERVISOR_DIED, false) => {
                tracing::warn!(event = "draining", "draining because weir up has died");
            }
            (_, true) => end("a second signal ended the process before it had drained"),
            (_, false) => {
                let signal = if signal == SIGINT {
                    "SIGINT"
                } else {
                    "SIGTERM"
                };
                tracing::info!(
                    event = "draining",
                    signal,
                    "draining; a second signal ends the process at once"
                );
            }
        }
        self.drain();
        // Without a deadline of its own a process with a stuck plugin call would never end.
        let deadline = thread::Builder::new()
            .name("weir-drain-deadline".to_owned())
            .spawn(move || {
                thread::sleep(drain_timeout);
                let seconds = drain_timeout.as_secs_f64();
                end(&format!(
                    "the process had not drained within its shutdown_timeout of {seconds} s"
                ));
            });
        if let Err(error) = deadline {
            end(&format!("the drain deadline could not be set: {error}"));
        }
    }
}

fn end(reason: &str) -> ! {
    log::say(&format!("weir: {reason}"));
    process::exit(EXIT_FAILED)
}

/// Drains this process, through [`Signals`], when the process `parent` ends however it does; before
/// [`Signals::install`] it ends at once. Call it on the main thread: Linux keeps the wish per thread.
///
/// Returns false when the parent is gone already; then the caller ends at once.
///
/// # Errors
/// The kernel refuses, which it does for an illegal signal only.
pub fn end_with_parent(parent: i32) -> io::Result<bool> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::USR1))?;
    // The parent may have died before the line above; then this process has a new one and no signal will come.
    let current = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    Ok(current == Some(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_seen_by_clones_and_by_waiters() {
        let signals = Signals::default();
        assert!(!signals.is_draining());
        assert!(!signals.wait(Duration::ZERO));
        let clone = signals.clone();
        let waiter = thread::spawn(move || clone.wait(Duration::from_secs(60)));
        signals.drain();
        assert!(waiter.join().expect("no panic"));
        assert!(signals.is_draining());
    }
}
