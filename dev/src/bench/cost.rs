//! What a process tree has used, from /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// User and system time in seconds of `pid` and everything below it, ended children included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let processes = processes()?;
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

struct Process {
    parent: u32,
    ticks: u64,
}

fn processes() -> Result<BTreeMap<u32, Process>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since the folder was listed.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(process) = parse_stat(&stat)
        {
            processes.insert(pid, process);
        }
    }
    Ok(processes)
}

/// proc_pid_stat(5): fields 4 (parent) and 14 to 17 (utime, stime, cutime, cstime).
fn parse_stat(stat: &str) -> Option<Process> {
    // The second field may contain spaces and parentheses; the last one closes it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = fields
        .get(11..15)?
        .iter()
        .filter_map(|f| f.parse::<u64>().ok());
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_strange_name() {
        let line = "42 (a ) b) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        let process = parse_stat(line).expect("it is whole");
        assert_eq!((process.parent, process.ticks), (7, 100));
    }

    #[test]
    fn this_process_has_used_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).expect("/proc") >= 0.0);
        assert!(peak_rss_mib(pid).expect("/proc") > 0.5);
    }
}
