//! What the tests start and look at.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use weir::http::{self, Listen};
use weir::log::{self, Format, Level, Printer, Scrubber};
use weir::supervisor::{self, RestartPolicy, Settings};

/// The environment variable with the folder of scripts; only supervisors and hosts have it.
pub const FOLDER: &str = "WEIR_SUPERVISOR_TEST";

/// A drain timeout that no test reaches.
pub const LONG_DRAIN_MS: u64 = 100_000;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn script_file(folder: &Path, pipeline: &str) -> PathBuf {
    folder.join(format!("{pipeline}.script"))
}

pub fn pids_file(folder: &Path, pipeline: &str) -> PathBuf {
    folder.join(format!("{pipeline}.pids"))
}

pub fn drained_file(folder: &Path, pipeline: &str) -> PathBuf {
    folder.join(format!("{pipeline}.drained"))
}

pub fn told_file(folder: &Path) -> PathBuf {
    folder.join("told")
}

/// The supervisor's process: `up FORMAT DRAIN_MS PAUSE_MS PIPELINE...`.
pub fn up(mut arguments: impl Iterator<Item = String>) -> i32 {
    let format = arguments.next().expect("a format");
    let format = Format::from_str(&format, false).expect("a known format");
    let mut next_ms = || {
        let ms = arguments.next().expect("a duration");
        Duration::from_millis(ms.parse().expect("a number"))
    };
    let (drain_timeout, pause) = (next_ms(), next_ms());
    let printer = Printer::new(format, Scrubber::default());
    log::init(Level::Info, printer.clone()).expect("no other logger");
    let http = http::bind(Listen::Address(([127, 0, 0, 1], 0).into())).expect("a free port");
    let file = Path::new("connectors.yaml");
    let mut settings = Settings::new(file, Level::Info, arguments.collect(), Duration::ZERO, http)
        .expect("a program");
    settings.drain_timeout = drain_timeout;
    settings.restart = RestartPolicy {
        first: pause,
        longest: pause * 4,
        reset_after: Duration::from_secs(600),
    };
    i32::from(supervisor::run(settings, printer).expect("a supervisor"))
}

/// A folder of scripts.
pub struct Rig {
    folder: TempDir,
    pipelines: Vec<String>,
    /// The first pause before a restart; the longest is four times that.
    pub pause_ms: u64,
}

impl Rig {
    pub fn new(scripts: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for (pipeline, script) in scripts {
            std::fs::write(script_file(folder.path(), pipeline), script).expect("a script");
        }
        let pipelines = scripts.iter().map(|(pipeline, _)| (*pipeline).to_owned());
        Self {
            folder,
            pipelines: pipelines.collect(),
            pause_ms: 20,
        }
    }

    pub fn up(&self, format: Format, drain_ms: u64) -> Up {
        let log = self.folder.path().join("up.log");
        let format = format.to_possible_value().expect("a name");
        let child = self
            .command()
            .args(["up", format.get_name()])
            .args([drain_ms, self.pause_ms].map(|ms| ms.to_string()))
            .args(&self.pipelines)
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("a process");
        Up { child, log }
    }

    /// Starts a host that believes in another parent and waits for its end.
    pub fn host_of_parent(&self, pipeline: &str, parent: i32) -> ExitStatus {
        let parent = parent.to_string();
        let arguments = ["run", pipeline, "--http", "off", "--parent-pid", &parent];
        let mut child = self.command().args(arguments).spawn().expect("a process");
        wait(&mut child)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        command.env(FOLDER, self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Lets the hosts go on that wait to be told.
    pub fn tell(&self) {
        std::fs::write(told_file(self.folder.path()), "").expect("a file");
    }

    pub fn has_drained(&self, pipeline: &str) -> bool {
        drained_file(self.folder.path(), pipeline).exists()
    }

    /// The process of every start of a host.
    pub fn pids(&self, pipeline: &str) -> Vec<i32> {
        let pids = std::fs::read_to_string(pids_file(self.folder.path(), pipeline));
        let pids = pids.unwrap_or_default();
        pids.lines()
            .map(|pid| pid.parse().expect("a number"))
            .collect()
    }
}

/// A running supervisor. It is killed, and its hosts with it, when the test fails.
pub struct Up {
    child: Child,
    log: PathBuf,
}

impl Up {
    pub fn signal(&self, signal: Signal) {
        kill(
            i32::try_from(self.child.id()).expect("a process id"),
            signal,
        );
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    fn lines(&self) -> Vec<Value> {
        let log = self.log();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub fn lines_of(&self, pipeline: &str) -> Vec<Value> {
        let lines = self.lines().into_iter();
        lines.filter(|line| line["pipeline"] == pipeline).collect()
    }

    pub fn events(&self, event: &str) -> Vec<Value> {
        let lines = self.lines().into_iter();
        lines.filter(|line| line["event"] == event).collect()
    }

    pub fn has_event(&self, event: &str, pipeline: &str) -> bool {
        self.lines_of(pipeline)
            .iter()
            .any(|line| line["event"] == event)
    }

    /// Where the supervisor itself listens.
    pub fn address(&self) -> Option<SocketAddr> {
        let mut lines = self.events("listening").into_iter();
        let own = lines.find(|line| line.get("pipeline").is_none())?;
        own["http"].as_str()?.parse().ok()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // An error means that it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, signal).expect("a process of ours");
}

/// Whether a process runs. One that has ended and that nobody has waited for does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn wait(child: &mut Child) -> ExitStatus {
    until("a process ends", || child.try_wait().expect("our child"))
}

/// Looks until there is an answer.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The status code and the body that a GET answers with.
pub fn answer(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("legal");
    let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (code.expect("a status"), body.expect("a body"))
}
