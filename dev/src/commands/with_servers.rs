//! A command beside real servers: started once, named in its environment, stopped after it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer, KafkaServer};

use super::signals::Signals;

#[derive(Debug, Args)]
pub struct WithServers {
    /// Starts Kafka and sets WEIR_TEST_KAFKA to its address (without --elasticsearch: only it).
    #[arg(long)]
    kafka: bool,
    /// Starts Elasticsearch and sets WEIR_TEST_ELASTICSEARCH to its URL.
    #[arg(long)]
    elasticsearch: bool,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl WithServers {
    /// Gives the command's exit code: 128 + the signal's number if one ended it.
    pub fn run(&self) -> Result<ExitCode> {
        let signals = Signals::catch()?;
        let both = self.kafka == self.elasticsearch;
        let (mut kafka, mut elasticsearch) = start(both || self.kafka, both || self.elasticsearch)?;
        // A signal during the start: the command must not run any more.
        if let Some(signal) = signals.take() {
            return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)));
        }
        let (program, arguments) = self.command.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(kafka) = &kafka {
            command.env("WEIR_TEST_KAFKA", kafka.bootstrap());
        }
        if let Some(elasticsearch) = &elasticsearch {
            command.env("WEIR_TEST_ELASTICSEARCH", elasticsearch.url());
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let status = wait(child, &signals)?;
        // The data is thrown away: an orderly shutdown would only cost time.
        kafka.iter_mut().for_each(KafkaServer::kill);
        elasticsearch.iter_mut().for_each(ElasticsearchServer::kill);
        Ok(ExitCode::from(exit_code(status)))
    }
}

type Servers = (Option<KafkaServer>, Option<ElasticsearchServer>);

/// Starts both at the same time.
fn start(kafka: bool, elasticsearch: bool) -> Result<Servers> {
    thread::scope(|scope| {
        let kafka = kafka.then(|| scope.spawn(|| timed("Kafka", KafkaServer::start)));
        let elasticsearch = elasticsearch.then(|| {
            scope.spawn(|| {
                timed("Elasticsearch", || {
                    ElasticsearchServer::start(ElasticsearchOptions::default())
                })
            })
        });
        Ok((
            kafka.map(joined).transpose()?,
            elasticsearch.map(joined).transpose()?,
        ))
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(anyhow!("the thread that started a server panicked")))
}

fn timed<T>(name: &str, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let server = start()?;
    let seconds = begin.elapsed().as_secs_f32();
    eprintln!("weir-dev: {name} is up after {seconds:.1} s");
    Ok(server)
}

/// Waits for the command. Ctrl-C in a terminal reaches it without our help; SIGTERM is passed on.
fn wait(mut child: Child, signals: &Signals) -> Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let (Some(signal), Some(pid)) = (signals.take(), pid)
            && signal == Signal::TERM.as_raw()
        {
            // An error means that it has just ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1)
}
