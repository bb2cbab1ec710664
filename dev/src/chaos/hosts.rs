//! The hosts of one pipeline.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::{Command, Folder, Host, Signal};

use super::journal::Journal;
use super::schedule::{Fault, Lane};
use super::stage::Target;

/// Lines of a log that a finding shows.
const SHOWN_LINES: usize = 25;
/// What the last line of a host says that could not drain: from the process at its deadline, and from its task.
const DEADLINE_PASSED: [&str; 2] = ["shutdown_timeout", "host.drain: "];
/// 128 + SIGTERM.
const ENDED_BY_SIGTERM: i32 = 143;

pub struct Hosts<'a> {
    lane: Lane,
    folder: &'a Folder,
    pipeline: String,
    /// Whether a host is the `--instance` of its place, so that whoever comes after it has its transactional id.
    are_named: bool,
    hosts: Vec<Host>,
    /// Where the logs of hosts that have ended go.
    logs: PathBuf,
    ended: usize,
}

impl<'a> Hosts<'a> {
    /// One host of `pipeline`, ready.
    pub fn start(
        lane: Lane,
        folder: &'a Folder,
        pipeline: String,
        are_named: bool,
        logs: PathBuf,
    ) -> Result<Hosts<'a>> {
        let mut hosts = Hosts {
            lane,
            folder,
            pipeline,
            are_named,
            hosts: Vec::new(),
            logs,
            ended: 0,
        };
        hosts.join()?;
        hosts.host(0)?.wait_ready()?;
        Ok(hosts)
    }

    /// Waits until the account of every host balances with nothing pending; gives the number of hosts.
    pub fn wait_balanced(&self) -> Result<usize> {
        for host in &self.hosts {
            let balanced = host.wait_balanced(0.0);
            balanced.with_context(|| format!("host {} of {}", host.id(), self.pipeline))?;
        }
        Ok(self.hosts.len())
    }

    /// Ends all in order, the last started one first.
    pub fn drain_all(&mut self) -> Result<()> {
        while let Some(host) = self.hosts.pop() {
            let code = self.drain(host)?;
            if code != 0 {
                bail!("exit code {code} after SIGTERM, with nothing in its way");
            }
        }
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        let host = self.command(self.hosts.len()).start()?;
        self.hosts.push(host);
        Ok(())
    }

    fn command(&self, number: usize) -> Command<'a> {
        let command = Command::run(self.folder, &self.pipeline);
        match self.are_named {
            true => command
                .argument("--instance")
                .argument(&format!("host-{number}")),
            false => command,
        }
    }

    /// Another host in the place of `number`; gives the old one.
    fn replace(&mut self, number: usize) -> Result<Host> {
        let next = self.command(number).start()?;
        let place = self.hosts.get_mut(number).context("no such host")?;
        Ok(std::mem::replace(place, next))
    }

    /// As in a rolling upgrade: the next one finds the other still there or just gone.
    fn start_then_drain(&mut self, number: usize) -> Result<i32> {
        let old = self.replace(number)?;
        self.drain(old)
    }

    /// As a StatefulSet does it: two of one name would fence each other.
    fn drain_then_start(&mut self, number: usize) -> Result<i32> {
        self.host(number)?;
        let old = self.hosts.remove(number);
        let code = self.drain(old)?;
        let next = self.command(number).start()?;
        self.hosts.insert(number, next);
        Ok(code)
    }

    /// SIGTERM, and the exit code where it is one that the contract allows.
    fn drain(&mut self, mut host: Host) -> Result<i32> {
        let code = host.drain()?;
        self.keep_log(&host)?;
        let lines = host.log.lines();
        let last = lines.last().map_or("", String::as_str);
        if !is_allowed_after_sigterm(code, last) {
            bail!(
                "exit code {code} after SIGTERM:\n{}",
                host.log.tail(SHOWN_LINES)
            );
        }
        Ok(code)
    }

    fn keep_log(&mut self, host: &Host) -> Result<()> {
        self.ended += 1;
        let name = format!("{}-{:03}-{}.log", self.lane.name(), self.ended, host.id());
        let path = self.logs.join(name);
        fs::write(&path, host.log.lines().join("\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn host(&mut self, number: usize) -> Result<&mut Host> {
        self.hosts.get_mut(number).context("no such host")
    }

    fn stop(&mut self, number: usize, time: Duration) -> Result<()> {
        self.host(number)?.signal(Signal::Stop)?;
        // The length of the stop is the fault.
        thread::sleep(time);
        self.host(number)?.signal(Signal::Continue)
    }
}

/// 0: drained. 1: the drain deadline passed, and the last line says so. The signal itself: only before the first line,
/// when the process had not yet come to take signals over and had begun nothing.
fn is_allowed_after_sigterm(code: i32, last_line: &str) -> bool {
    match code {
        0 => true,
        1 => DEADLINE_PASSED.iter().any(|text| last_line.contains(text)),
        ENDED_BY_SIGTERM => last_line.is_empty(),
        _ => false,
    }
}

impl Target for Hosts<'_> {
    fn take(&mut self, fault: Fault, journal: &Journal) -> Result<()> {
        match fault {
            Fault::Kill { host } => {
                self.host(host)?.kill()?;
                let old = self.replace(host)?;
                self.keep_log(&old)
            }
            Fault::Drain { host } => {
                let code = match self.are_named {
                    true => self.drain_then_start(host)?,
                    false => self.start_then_drain(host)?,
                };
                journal.say(self.lane.name(), &format!("drained, exit code {code}"));
                Ok(())
            }
            Fault::Stop { host, for_ms } => self.stop(host, Duration::from_millis(for_ms)),
            Fault::Join => self.join(),
            Fault::Leave => {
                let old = self.hosts.pop().context("no host")?;
                let code = self.drain(old)?;
                journal.say(self.lane.name(), &format!("left, exit code {code}"));
                Ok(())
            }
            other => bail!("{other} is no fault of a host"),
        }
    }

    fn watch(&mut self, journal: &Journal) -> Result<()> {
        for number in 0..self.hosts.len() {
            if self.host(number)?.try_exit()?.is_none() {
                continue;
            }
            let mut old = self.replace(number)?;
            let code = old.wait_exit()?;
            self.keep_log(&old)?;
            let tail = old.log.tail(SHOWN_LINES);
            let what = format!("host {} ended by itself with {code}:\n{tail}", old.id());
            journal.find(self.lane.name(), &what);
        }
        Ok(())
    }
}

impl Drop for Hosts<'_> {
    fn drop(&mut self) {
        for host in std::mem::take(&mut self.hosts) {
            // The run has failed already; the log is all that is left to save.
            let _ = self.keep_log(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed_after_sigterm;

    #[test]
    fn an_exit_after_sigterm_needs_its_reason() {
        assert!(is_allowed_after_sigterm(0, "drained"));
        let late = "host.drain: not everything could be finished: 3 records were on their way";
        assert!(is_allowed_after_sigterm(1, late));
        assert!(!is_allowed_after_sigterm(
            1,
            "task.crash_loop: broke 9 times"
        ));
        assert!(is_allowed_after_sigterm(143, ""));
        assert!(!is_allowed_after_sigterm(143, "ready"));
        assert!(!is_allowed_after_sigterm(2, ""));
    }
}
