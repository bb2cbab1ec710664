//! The wall clock, which stands still in golden tests.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    System,
    /// Stands at this time, unix milliseconds.
    Fixed(i64),
}

impl Clock {
    /// Unix milliseconds.
    pub fn now_ms(self) -> i64 {
        match self {
            Clock::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Clock::Fixed(now_ms) => now_ms,
        }
    }
}
