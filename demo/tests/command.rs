//! The demo's own program with a stand-in for `weir`: its start, its windows, its ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A running demo; its lines come through a channel.
struct Demo {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    _logs: TempDir,
}

impl Demo {
    fn start(behaviour: &str, arguments: &[&str]) -> Self {
        let logs = tempfile::tempdir().expect("a folder");
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/weir");
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir-demo"))
            .arg("--weir")
            .arg(stand_in)
            .args(["--rate", "20", "--seed", "1"])
            .args(arguments)
            .env("STAND_IN", behaviour)
            // Logs that a failed demo keeps.
            .env("TMPDIR", logs.path())
            .env_remove("KAFKA_BOOTSTRAP")
            .env_remove("ELASTICSEARCH_URL")
            .env_remove("DELAY")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the demo");
        let output = child.stdout.take().expect("its output");
        Self {
            child,
            lines: read_lines(output),
            seen: Vec::new(),
            _logs: logs,
        }
    }

    /// Reads on until a line meets `condition`, and gives that line.
    fn line(&mut self, condition: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no such line among\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if condition(&line) {
                return line;
            }
        }
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("a signal");
    }

    /// Exit code and stderr; a demo that does not end by itself is ended.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                break status;
            }
            if Instant::now() > deadline {
                panic!(
                    "no end after\n{}",
                    self.lines.try_iter().collect::<Vec<_>>().join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().expect("stderr");
        stderr.read_to_string(&mut errors).expect("text");
        (status.code(), errors)
    }
}

impl Drop for Demo {
    /// A failed test leaves no process behind: the demo still drains its hosts.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn it_sends_visits_shows_the_hosts_and_drains_on_sigterm() {
    let mut demo = Demo::start("serve", &[]);
    demo.line(|line| line.contains("transactions without effect"));
    // The stand-in names a port where nobody answers.
    demo.line(|line| line.contains("a does not answer"));
    demo.line(|line| {
        let sent = line
            .split_once("sent ")
            .and_then(|(_, rest)| rest.split_once(' '));
        sent.is_some_and(|(sent, _)| sent.parse::<u64>().is_ok_and(|sent| sent > 20))
    });
    demo.terminate();
    demo.line(|line| line.starts_with("Drained."));
    let (code, errors) = demo.end();
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn it_ends_after_the_wanted_windows() {
    let mut demo = Demo::start("serve", &["--windows", "2", "--deadline", "1m"]);
    let store = demo.line(|line| line.contains("document store"));
    let url = store
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .expect("a URL");
    let hour = 3_600 + jiff::Timestamp::now().as_second();
    let bulk: String = [(hour, 12.0), (hour + 60, 10_100.0)]
        .iter()
        .map(|(second, p90)| {
            let start = jiff::Timestamp::from_second(*second)
                .expect("a moment")
                .to_string();
            let document = json!({"@timestamp": start, "p90": p90, "count": 7});
            format!("{}\n{document}\n", json!({"index": {"_id": start}}))
        })
        .collect();
    let answer = ureq::post(format!("{url}/visits_sync_sla/_bulk"))
        .content_type("application/x-ndjson")
        .send(bulk);
    assert!(answer.is_ok());
    let line = demo.line(|line| line.starts_with("window "));
    assert!(
        line.contains("p90   12.0 ms") && !line.contains("SLA MISS"),
        "{line}"
    );
    let line = demo.line(|line| line.starts_with("window "));
    assert!(line.contains("SLA MISS"), "{line}");
    let (code, errors) = demo.end();
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn it_fails_when_the_windows_do_not_close_in_time() {
    let demo = Demo::start("serve", &["--windows", "1", "--deadline", "500ms"]);
    let (code, errors) = demo.end();
    assert_eq!(code, Some(1));
    assert!(errors.contains("only 0 of 1 windows closed"), "{errors}");
}

#[test]
fn it_fails_when_the_hosts_end_by_themselves_and_shows_what_they_said() {
    let mut demo = Demo::start("exit", &[]);
    demo.line(|line| line == "error[plugin.missing]: There is no plugin.");
    let (code, errors) = demo.end();
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("`weir up` ended by itself (exit status: 2)"),
        "{errors}"
    );
}

#[test]
fn a_wrong_argument_is_named() {
    let (code, errors) = Demo::start("serve", &["--delay", "10"]).end();
    assert_eq!(code, Some(1));
    assert!(errors.contains("\"10\" is no duration"), "{errors}");
}
