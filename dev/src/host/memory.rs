//! How much memory a host holds.

use std::fs;

use anyhow::{Context, Result};

use super::Host;

/// Memory of a process as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In RAM now, bytes.
    pub resident_bytes: u64,
    /// The most that ever was, bytes.
    pub peak_bytes: u64,
}

impl Host {
    /// What the host holds at this moment.
    ///
    /// # Errors
    /// The host has ended.
    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        parse(&status).with_context(|| format!("{path} names no memory: the host has ended"))
    }
}

/// proc_pid_status(5): `VmRSS` and `VmHWM`, in KiB.
fn parse(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        resident_bytes: bytes("VmRSS:")?,
        peak_bytes: bytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tweir\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t9\n";
        let memory = Memory {
            resident_bytes: 10 << 20,
            peak_bytes: 20 << 20,
        };
        assert_eq!(parse(status), Some(memory));
        assert_eq!(parse("Name:\tweir\nState:\tZ (zombie)\n"), None);
    }
}
