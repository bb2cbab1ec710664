//! Waiting for a condition, never for luck.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Looks every 50 ms until `look` gives a value; an error after `timeout` that says what was
/// waited for and what was last seen.
///
/// `look` answers `Ok(value)` when the condition holds, `Err(what it sees instead)` when not yet.
pub fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                bail!(
                    "waited {} s for {what}; last seen: {seen}",
                    timeout.as_secs()
                )
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
