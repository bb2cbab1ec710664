//! A child process that cannot outlive this process.
//!
//! The child leads a process group of its own. Beside it, in the same group, a shell waits on a
//! pipe whose other end only this process holds. When the pipe closes, for whatever reason, the
//! shell kills the group. That works after `kill -9` of this process too, needs no thread that
//! stays alive (as PR_SET_PDEATHSIG does), and reaches grandchildren such as the server process
//! that the Elasticsearch launcher starts. A group id is not reused while a member lives, so the
//! shell can never hit a stranger.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::processes;

const GUARD: &str = r#"
exec 3<&0 0</dev/null
( read -r _ <&3; kill -KILL 0 ) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

/// How often an exit is looked for: short against every server's start, cheap against its work.
const POLL_INTERVAL_MS: u64 = 20;

/// A running child. Dropping it kills its whole process group and reaps it.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    /// Closed on drop: the guard's signal to kill what is left of the group.
    lifeline: Option<ChildStdin>,
}

impl Guarded {
    /// Starts `program`; `configure` sets arguments, environment, output and user.
    ///
    /// The pid of the child is the pid of `program` itself: the shell replaces itself by it.
    pub fn spawn(
        program: impl AsRef<OsStr>,
        configure: impl FnOnce(&mut Command),
    ) -> io::Result<Guarded> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "sh"]).arg(program);
        configure(&mut command);
        command.process_group(0).stdin(Stdio::piped());
        let mut child = command.spawn()?;
        let lifeline = child.stdin.take();
        Ok(Guarded { child, lifeline })
    }

    /// The process id of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Access to the captured output pipes, where `configure` asked for them.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal` to the program alone, not to its group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal)
            .with_context(|| format!("cannot send {signal:?} to process {}", self.id()))
    }

    /// The exit status, if the program has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end of the program, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "process {} has not ended within {} s",
                    self.id(),
                    timeout.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(POLL_INTERVAL_MS));
        }
    }

    /// Asks with SIGTERM and waits at most `timeout`, then clears the group.
    pub fn stop(mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.try_wait()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        let status = self.wait(timeout);
        self.clear_group();
        status
    }

    /// Kills the whole group with SIGKILL and waits until it is gone.
    pub fn kill(mut self) {
        self.clear_group();
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("the process id is out of range")
    }

    /// Best effort: an error means that the group is gone already.
    fn clear_group(&mut self) {
        let Ok(group) = self.pid() else { return };
        let _ = kill_process_group(group, Signal::KILL);
        self.lifeline = None;
        let _ = self.child.wait();
        // Zombies do not count: grandchildren are init's, which in a container may reap them late or never.
        let deadline = Instant::now() + Duration::from_secs(5);
        while processes::group_lives(self.id()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(POLL_INTERVAL_MS));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // After a normal stop the group is empty and this returns at once.
        if self.lifeline.is_some() {
            self.clear_group();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};

    #[test]
    fn the_program_keeps_its_exit_code() {
        let mut child = Guarded::spawn("/bin/sh", |c| {
            c.args(["-c", "exit 7"]);
        })
        .expect("sh starts");
        let status = child.wait(Duration::from_secs(20)).expect("it ends");
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn the_output_ends_with_the_program() {
        let mut child = Guarded::spawn("/bin/echo", |c| {
            c.arg("hello").stdout(Stdio::piped());
        })
        .expect("echo starts");
        let mut text = String::new();
        let mut out = child.child_mut().stdout.take().expect("stdout is piped");
        out.read_to_string(&mut text).expect("stdout is text");
        assert_eq!(text, "hello\n");
    }

    #[test]
    fn a_kill_reaches_grandchildren() {
        let mut child = Guarded::spawn("/bin/sh", |c| {
            c.args(["-c", "sleep 600 & echo $!; wait"])
                .stdout(Stdio::piped());
        })
        .expect("sh starts");
        let out = child.child_mut().stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("a pid");
        let grandchild: i32 = line.trim().parse().expect("a number");
        child.kill();
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        let dead = stat.map_or(true, |s| s.contains(") Z "));
        assert!(dead, "process {grandchild} is still there");
    }

    #[test]
    fn closing_the_lifeline_kills_the_group() {
        let mut child = Guarded::spawn("/bin/sleep", |c| {
            c.arg("600");
        })
        .expect("sleep starts");
        // What the kernel does to the pipe when this process dies.
        child.lifeline = None;
        let status = child.wait(Duration::from_secs(20)).expect("it is killed");
        assert_eq!(status.code(), None, "ended by a signal: {status}");
    }
}
