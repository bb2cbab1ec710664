//! `weir run`: one host, one pipeline.

mod topics;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use crate::cli::{GlobalOptions, RunOptions};
use crate::flow::node_labels;
use crate::http::{self, HttpServer, Listen};
use crate::log::{Scrubber, say};
use crate::metrics::HostMetrics;
use crate::plugin::Catalog;
use crate::shutdown::{self, Signals};
use crate::status::{CallLimits, HostStatus, Role, TaskState, Ticker};
use crate::task::{TaskContext, TaskEnd, spawn};
use crate::topology::{HttpListen, ParseMode, Pipeline, Topology};

use super::load::load_or_say;

/// Done, or drained.
const EXIT_OK: u8 = 0;
/// Failed at run time, or the drain deadline passed.
const EXIT_FAILED: u8 = 1;
/// Refused before anything started.
const EXIT_REFUSED: u8 = 2;

/// Runs until SIGTERM or a failure; answers the exit code.
pub fn run(global: &GlobalOptions, options: &RunOptions, scrubber: &Scrubber) -> u8 {
    if let Some(parent) = options.parent_pid {
        // First of all, while this is the only thread: a host does not outlive its supervisor.
        match shutdown::end_with_parent(parent) {
            Ok(true) => {}
            Ok(false) => return EXIT_FAILED,
            Err(error) => {
                return refuse(&format!(
                    "host.parent: watching the parent process: {error}"
                ));
            }
        }
    }
    let Some((topology, catalog)) = load_or_say(&global.file, ParseMode::Run, scrubber) else {
        return EXIT_REFUSED;
    };
    let pipeline = match choose(&topology, options.pipeline.as_deref()) {
        Ok(pipeline) => pipeline.clone(),
        Err(reason) => return refuse(&reason),
    };
    let bound = match http::bind(listen(options.http, topology.http)) {
        Ok(bound) => bound,
        Err(error) => return refuse(&format!("{}: {error}", error.code())),
    };
    let signals = match Signals::install(pipeline.shutdown_timeout) {
        Ok(signals) => signals,
        Err(error) => {
            return refuse(&format!(
                "host.signals: installing signal handlers: {error}"
            ));
        }
    };
    let status = Arc::new(HostStatus::new(&pipeline.name));
    let metrics = Arc::new(HostMetrics::new(Arc::clone(&status)));
    let router = http::host_router(Arc::clone(&status), Arc::clone(&metrics));
    let server = match bound.map(|bound| bound.serve(router)).transpose() {
        Ok(server) => server,
        Err(error) => return refuse(&format!("{}: {error}", error.code())),
    };
    announce(&pipeline);
    let host = Host {
        pipeline: Arc::new(pipeline),
        catalog,
        signals,
        status,
        metrics,
        server,
    };
    host.run(options.instance.as_deref())
}

fn refuse(reason: &str) -> u8 {
    say(reason);
    EXIT_REFUSED
}

fn fail(reason: &str) -> u8 {
    say(reason);
    EXIT_FAILED
}

/// The named pipeline, or the only one.
pub(super) fn choose<'t>(
    topology: &'t Topology,
    name: Option<&str>,
) -> Result<&'t Pipeline, String> {
    let names: Vec<&str> = topology
        .pipelines
        .iter()
        .map(|pipeline| pipeline.name.as_str())
        .collect();
    let file = topology.path.display();
    match (name, topology.pipelines.as_slice()) {
        (Some(name), _) => topology.pipeline(name).ok_or_else(|| {
            // A third of the letters wrong is no longer a slip of the fingers.
            let slips_max = name.len().div_ceil(3);
            let near = names
                .iter()
                .find(|known| strsim::damerau_levenshtein(known, name) <= slips_max);
            let hint = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_else(|| format!("; it declares {}", names.join(", ")));
            format!("run.unknown_pipeline: {file} declares no pipeline `{name}`{hint}")
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!(
            "run.which_pipeline: {file} declares several pipelines; name one of: {} (or run all of them with `weir up`)",
            names.join(", ")
        )),
    }
}

/// The command line wins over the file.
pub fn listen(option: Option<Listen>, file: HttpListen) -> Listen {
    option.unwrap_or(match file {
        HttpListen::Unset => Listen::Unset,
        HttpListen::Off => Listen::Off,
        HttpListen::Address(address) => Listen::Address(address),
    })
}

fn announce(pipeline: &Pipeline) {
    tracing::info!(
        event = "starting",
        pipeline = pipeline.name,
        delivery = pipeline.delivery.as_str(),
        "starting"
    );
}

struct Host {
    pipeline: Arc<Pipeline>,
    catalog: Arc<Catalog>,
    signals: Signals,
    status: Arc<HostStatus>,
    metrics: Arc<HostMetrics>,
    server: Option<HttpServer>,
}

impl Host {
    fn run(&self, instance: Option<&str>) -> u8 {
        let ticker = match Ticker::start(CallLimits::default()) {
            Ok(ticker) => ticker,
            Err(error) => return fail(&format!("host.thread: starting the ticker: {error}")),
        };
        let first = self.status.task(0);
        let source_partitions = match topics::prepare(&self.pipeline, &self.signals, &first) {
            Ok(topics::Prepared::Ready { source_partitions }) => source_partitions,
            Ok(topics::Prepared::Draining) => return EXIT_OK,
            Err(reason) => {
                first.set(TaskState::Failed {
                    reason: reason.clone(),
                });
                return fail(&reason);
            }
        };
        // 64 bits: two processes with one name would fence each other.
        let process = format!("{:016x}", fastrand::u64(..));
        let (ends, ended) = mpsc::channel();
        let unready = Arc::new(AtomicU32::new(self.pipeline.tasks));
        for task in 0..self.pipeline.tasks {
            let status = self.status.task(task);
            let context = TaskContext {
                pipeline: Arc::clone(&self.pipeline),
                task,
                instance: instance.map(str::to_owned),
                process: process.clone(),
                catalog: Arc::clone(&self.catalog),
                signals: self.signals.clone(),
                monitor: ticker.watch(task, Arc::clone(&status), node_labels(&self.pipeline)),
                status,
                host: Arc::clone(&self.status),
                on_ready: self.on_ready(Arc::clone(&unready)),
                source_partitions,
            };
            let ends = ends.clone();
            // The receiver lives until every task has ended.
            let started = spawn(context, self.metrics.meter(task), move |end| {
                drop(ends.send(end))
            });
            if let Err(error) = started {
                return fail(&format!("host.thread: starting task {task}: {error}"));
            }
        }
        drop(ends);
        self.wait(&ended)
    }

    /// Logs `ready` when the last task has its assignment.
    fn on_ready(&self, unready: Arc<AtomicU32>) -> Box<dyn Fn(Role) + Send> {
        let pipeline = self.pipeline.name.clone();
        let http = self
            .server
            .as_ref()
            .map(|server| server.address().to_string())
            .unwrap_or_default();
        Box::new(move |role| {
            if unready.fetch_sub(1, Ordering::AcqRel) == 1 {
                tracing::info!(
                    event = "ready",
                    pipeline,
                    %role,
                    http,
                    "ready: {}",
                    match role {
                        Role::Active => "every source has its assignment",
                        Role::Standby => "standing by for the active host",
                    }
                );
            }
        })
    }

    /// Waits for every task. The first failure drains the others.
    fn wait(&self, ended: &mpsc::Receiver<TaskEnd>) -> u8 {
        let mut failure = None;
        for end in ended.iter() {
            let reason = match end {
                TaskEnd::Drained => continue,
                TaskEnd::DrainedInPart { pending } => format!(
                    "host.drain: not everything could be finished: {pending} records were on their way; they will be read again"
                ),
                TaskEnd::Failed(reason) => {
                    self.signals.drain();
                    reason
                }
            };
            failure = failure.or(Some(reason));
        }
        match failure {
            Some(reason) => fail(&reason),
            None => {
                tracing::info!(event = "drained", pipeline = self.pipeline.name, "drained");
                EXIT_OK
            }
        }
    }
}
