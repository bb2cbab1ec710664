//! SIGINT and SIGTERM as something a loop can ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Remembers the last of SIGINT and SIGTERM instead of dying of it.
#[derive(Debug, Default)]
pub struct Signals {
    last: Arc<AtomicUsize>,
}

impl Signals {
    pub fn catch() -> Result<Signals> {
        let signals = Signals::default();
        for signal in [SIGINT, SIGTERM] {
            let number = usize::try_from(signal)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&signals.last), number)?;
        }
        Ok(signals)
    }

    /// The signal since the last call, as its number.
    pub fn take(&self) -> Option<i32> {
        match self.last.swap(0, Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}
