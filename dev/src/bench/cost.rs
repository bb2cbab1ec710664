//! What a process tree has used, from /proc.

use std::fs;

use anyhow::{Context, Result};

use crate::processes;

/// User and system time in seconds of `pid` and everything below it, ended children included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let processes = processes::all()?;
    let mut ticks = 0;
    let mut open = vec![pid];
    while let Some(next) = open.pop() {
        ticks += processes.get(&next).map_or(0, |process| process.ticks);
        let children = processes.iter().filter(|(_, p)| p.parent == next);
        open.extend(children.map(|(&pid, _)| pid));
    }
    // Exact: both are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The largest resident set of `pid` so far, in MiB.
pub fn peak_rss_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .context("/proc reports no VmHWM")?;
    Ok(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).expect("/proc") >= 0.0);
        assert!(peak_rss_mib(pid).expect("/proc") > 0.5);
    }
}
