//! The process table, from /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;

/// One process, as far as anyone here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// `R`unning, `S`leeping, s`T`opped; `Z`: ended, and not reaped yet.
    pub state: char,
    pub parent: u32,
    pub group: u32,
    /// User and system time in clock ticks, with that of its ended children.
    pub ticks: u64,
}

/// Every process by its id.
pub fn all() -> Result<BTreeMap<u32, Process>> {
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

/// Whether a process of this group has not ended yet.
pub fn group_lives(group: u32) -> bool {
    let lives = |process: &Process| process.group == group && process.state != 'Z';
    all().is_ok_and(|processes| processes.values().any(lives))
}

/// proc_pid_stat(5): fields 3 (state), 4 (parent), 5 (group) and 14 to 17 (utime, stime, cutime, cstime).
fn parse_stat(stat: &str) -> Option<Process> {
    // The second field may contain spaces and parentheses; the last one closes it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let times = fields.get(11..15)?.iter();
    Some(Process {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        ticks: times.filter_map(|field| field.parse::<u64>().ok()).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_strange_name() {
        let line = "42 (a ) b) Z 7 41 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        let process = Process {
            state: 'Z',
            parent: 7,
            group: 41,
            ticks: 100,
        };
        assert_eq!(parse_stat(line), Some(process));
    }

    #[test]
    fn this_process_is_listed() {
        let all = all().expect("/proc");
        assert!(all.contains_key(&std::process::id()));
    }
}
