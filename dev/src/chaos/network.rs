//! The network as a target.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::proxy::{Path, Proxy};

use super::journal::Journal;
use super::schedule::Fault;
use super::stage::Target;

impl Target for &Proxy {
    fn take(&mut self, fault: Fault, _journal: &Journal) -> Result<()> {
        let (path, for_ms) = match fault {
            Fault::Cut { for_ms } => (Path::Cut, for_ms),
            Fault::Silence { for_ms } => (Path::Silent, for_ms),
            Fault::Slow { by_ms, for_ms } => (Path::Slow(Duration::from_millis(by_ms)), for_ms),
            other => bail!("{other} is no fault of a network"),
        };
        self.set(path);
        // The length of the disturbance is the fault.
        thread::sleep(Duration::from_millis(for_ms));
        self.set(Path::Open);
        Ok(())
    }
}
