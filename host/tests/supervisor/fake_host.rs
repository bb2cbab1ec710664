//! A host with everything of a real one but the pipeline. What it does stands in a script, one line per start.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::cli::{self, Command, RunOptions};
use weir::http;
use weir::log::{self, Printer, Scrubber};
use weir::metrics::HostMetrics;
use weir::shutdown::{self, Signals};
use weir::status::{HostStatus, TaskState};

use crate::rig::{drained_file, pids_file, script_file, told_file};

/// The exit code of a host whose supervisor is gone.
pub const EXIT_ORPHAN: i32 = 7;

/// How long a host may live at most, so that a test that fails leaves nothing behind.
const LIFETIME: Duration = Duration::from_secs(120);

pub fn main(folder: &Path) {
    let cli = cli::parse("0.0.0");
    let Command::Run(options) = cli.command else {
        panic!("the supervisor runs hosts only");
    };
    let parent = options.parent_pid.expect("a supervisor");
    if !shutdown::end_with_parent(parent).expect("Linux") {
        process::exit(EXIT_ORPHAN);
    }
    let signals = Signals::install(LIFETIME).expect("signal handlers");
    let printer = Printer::new(cli.global.log_format, Scrubber::default());
    log::init(cli.global.log_level, printer).expect("no other logger");

    let pipeline = options.pipeline.clone().expect("a pipeline");
    let action = next_action(folder, &pipeline);
    match action.as_str() {
        "serve" => {
            serve(&options, &pipeline, &signals);
            std::fs::write(drained_file(folder, &pipeline), "").expect("a marker");
        }
        "serve when told" => {
            wait_until_told(folder, &signals);
            serve(&options, &pipeline, &signals);
        }
        "panic" => panic!("on purpose"),
        "hang" => {
            serve(&options, &pipeline, &signals);
            tracing::info!(event = "hanging", "never ending by itself");
            std::thread::sleep(LIFETIME);
        }
        "refuse when told" => {
            wait_until_told(folder, &signals);
            log::say("refused on purpose");
            process::exit(2);
        }
        other => {
            let code = other
                .strip_prefix("exit ")
                .and_then(|code| code.parse().ok());
            process::exit(code.expect("a known action"));
        }
    }
}

/// Notes this start and returns its line of the script; the last line stands for all later starts.
fn next_action(folder: &Path, pipeline: &str) -> String {
    let script = std::fs::read_to_string(script_file(folder, pipeline)).expect("a script");
    let pids = pids_file(folder, pipeline);
    let starts = std::fs::read_to_string(&pids).map_or(0, |pids| pids.lines().count());
    let mut pids = OpenOptions::new()
        .create(true)
        .append(true)
        .open(pids)
        .expect("a file");
    pids.write_all(format!("{}\n", process::id()).as_bytes())
        .expect("noted");
    let action = script.lines().nth(starts).or(script.lines().last());
    action.expect("a script is not empty").to_owned()
}

fn serve(options: &RunOptions, pipeline: &str, signals: &Signals) {
    let status = Arc::new(HostStatus::new(pipeline));
    let metrics = Arc::new(HostMetrics::new(Arc::clone(&status)));
    let bound = http::bind(options.http.expect("the supervisor sets it")).expect("a free port");
    let bound = bound.expect("not off");
    let router = http::host_router(Arc::clone(&status), metrics);
    let server = bound.serve(router).expect("a server");
    status.task(0).set(TaskState::Running);
    log::say("not a line of a log");
    tracing::info!(event = "ready", pipeline, role = %status.role(), http = %server.address(), "serving");
    signals.wait(LIFETIME);
}

fn wait_until_told(folder: &Path, signals: &Signals) {
    let deadline = Instant::now() + LIFETIME;
    while !told_file(folder).exists() && Instant::now() < deadline {
        if signals.wait(Duration::from_millis(10)) {
            process::exit(0);
        }
    }
}
