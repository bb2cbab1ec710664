//! One run: servers, hosts and load, the schedule, the settling, the judgement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use tempfile::TempDir;

use crate::client::wait_until;
use crate::host::Folder;
use crate::judge::{Delivery, Report};
use crate::proxy::Proxy;
use crate::scene::Scene;
use crate::servers::{ElasticsearchOptions, ElasticsearchServer, KafkaServer};

use super::Options;
use super::hosts::Hosts;
use super::journal::Journal;
use super::outcome::Outcome;
use super::schedule::{Event, Lane, schedule};
use super::servers::ServerTarget;
use super::stage::{Target, play};
use super::{load, progress};

/// Servers and the proxies before them.
struct Servers {
    kafka: KafkaServer,
    kafka_path: Proxy,
    /// Its own one, where it may be restarted.
    elasticsearch: Option<ElasticsearchServer>,
    elasticsearch_url: String,
    elasticsearch_path: Proxy,
}

impl Servers {
    fn start(options: &Options) -> Result<Servers> {
        let own = |url: &Option<String>| -> Result<Option<ElasticsearchServer>> {
            let is_own = url.is_none();
            let start = || ElasticsearchServer::start(ElasticsearchOptions::default());
            is_own.then(start).transpose()
        };
        thread::scope(|scope| {
            let kafka = scope.spawn(KafkaServer::start_behind_proxy);
            let elasticsearch = own(&options.elasticsearch)?;
            let url = options.elasticsearch.clone();
            let url = url.or_else(|| elasticsearch.as_ref().map(ElasticsearchServer::url));
            let url = url.context("no Elasticsearch")?;
            let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            let elasticsearch_path = Proxy::to(port.context("a URL without a port")?)?;
            let (kafka, kafka_path) = kafka.join().map_err(|_| anyhow!("Kafka panicked"))??;
            Ok(Servers {
                kafka,
                kafka_path,
                elasticsearch,
                elasticsearch_url: url,
                elasticsearch_path,
            })
        })
    }

    /// A folder whose hosts know the proxies alone.
    fn folder(&self, scene: &Scene, options: &Options) -> Result<Folder> {
        let kafka = format!("127.0.0.1:{}", self.kafka_path.port());
        let elasticsearch = format!("http://127.0.0.1:{}", self.elasticsearch_path.port());
        scene.folder(|topology| {
            topology["kafka"] = json!({
                "bootstrap.servers": kafka,
                "consumer": { "session.timeout.ms": options.pace.session_timeout_ms },
                "producer": { "transaction.timeout.ms": options.transaction_timeout_ms },
            });
            let sla = scene.sla_in(topology);
            sla["sinks"]["index"]["config"]["urls"] = json!([elasticsearch]);
        })
    }
}

/// Runs the whole schedule and judges what is left.
///
/// # Errors
/// The run itself could not be made; what it found is in the outcome.
pub fn run(options: &Options) -> Result<Outcome> {
    let events = schedule(options.seed, options.length, &options.pace);
    println!("chaos: seed {}, {} faults", options.seed, events.len());
    for event in &events {
        let at = event.at.as_secs_f64();
        println!("  {at:>8.1} s  {:<18}  {}", event.lane.name(), event.fault);
    }
    let mut servers = Servers::start(options)?;
    let bootstrap = servers.kafka.bootstrap();
    let scene = Scene::on("chaos", &bootstrap, &servers.elasticsearch_url);
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = servers.folder(&scene, options)?;
    let mut logs = tempfile::Builder::new()
        .prefix("weir-dev-chaos-")
        .tempdir()?;
    let outcome = play_and_judge(options, &events, &mut servers, &scene, &folder, &logs);
    if !outcome.as_ref().is_ok_and(Outcome::is_clean) {
        logs.disable_cleanup(true);
        println!(
            "the logs of the hosts are kept in {}",
            logs.path().display()
        );
    }
    outcome
}

fn play_and_judge(
    options: &Options,
    events: &[Event],
    servers: &mut Servers,
    scene: &Scene,
    folder: &Folder,
    logs: &TempDir,
) -> Result<Outcome> {
    // Where Kafka restarts, only a host's successor can end what Kafka has left open of it (dev/README.md, "A defect of
    // Kafka's"). The windows' hosts share one transactional id, named or not.
    let are_named = options.pace.lanes.contains(&Lane::Kafka);
    let logs = || logs.path().to_owned();
    let mut reduce = Hosts::start(Lane::Reduce, folder, scene.reduce(), are_named, logs())?;
    let mut windows = Hosts::start(Lane::Windows, folder, scene.sla(), false, logs())?;
    let journal = Journal::begin();
    let (no_load, is_settled) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut outcome = thread::scope(|scope| {
        // However this ends, the threads beside it have to.
        let _end = SetOnDrop([&no_load, &is_settled]);
        let stall = |group: String, topic: String| {
            let is_settled = &is_settled;
            scope.spawn(move || progress::longest_stall(&scene.kafka, &group, &topic, is_settled))
        };
        let stalls = [
            ("reduce-visits", stall(scene.reduce_group(), scene.visits())),
            ("visits-sla", stall(scene.sla_group(), scene.reduced())),
        ];
        let (stop, rate) = (&no_load, options.visits_per_second);
        let load = scope.spawn(move || load::write(&scene.kafka, &scene.visits(), rate, stop));
        let targets = targets(&mut reduce, &mut windows, servers);
        play_all(targets, events, options.length, &journal);
        no_load.store(true, Ordering::Relaxed);
        let visits = load.join().map_err(|_| anyhow!("the load panicked"))??;
        journal.say("chaos", &format!("{visits} visits written; all healed"));
        let healed = Instant::now();
        if let Err(error) = settle(scene, options.settle_timeout) {
            journal.find("chaos", &format!("not settled: {error:#}"));
        }
        let settled_in = healed.elapsed();
        is_settled.store(true, Ordering::Relaxed);
        let stalls = stalls.map(|(name, thread)| (name, thread.join().unwrap_or_default()));
        Ok::<_, anyhow::Error>(Outcome {
            seed: options.seed,
            faults: journal.faults(),
            visits,
            reduced: None,
            windows: None,
            balanced_hosts: 0,
            stalls: stalls.to_vec(),
            settled_in,
            findings: Vec::new(),
        })
    })?;
    outcome.balanced_hosts = end_hosts([&mut reduce, &mut windows], &journal);
    outcome.reduced = judged(
        "reduce-visits",
        scene.compare_reduced(Delivery::ExactlyOnce),
        &journal,
    );
    outcome.windows = judged("visits-sla", scene.compare_windows(), &journal);
    outcome.findings = journal.findings();
    Ok(outcome)
}

/// Ends what waits for these, on every way out.
struct SetOnDrop<'a>([&'a AtomicBool; 2]);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0
            .iter()
            .for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

type Targets<'a> = Vec<(Lane, Box<dyn Target + Send + 'a>)>;

fn targets<'a, 'b: 'a>(
    reduce: &'a mut Hosts<'b>,
    windows: &'a mut Hosts<'b>,
    servers: &'a mut Servers,
) -> Targets<'a> {
    let mut targets: Targets<'a> = vec![
        (Lane::Reduce, Box::new(reduce)),
        (Lane::Windows, Box::new(windows)),
        (Lane::KafkaPath, Box::new(&servers.kafka_path)),
        (
            Lane::ElasticsearchPath,
            Box::new(&servers.elasticsearch_path),
        ),
        (
            Lane::Kafka,
            Box::new(ServerTarget {
                lane: Lane::Kafka,
                server: &mut servers.kafka,
            }),
        ),
    ];
    if let Some(server) = &mut servers.elasticsearch {
        let lane = Lane::Elasticsearch;
        targets.push((lane, Box::new(ServerTarget { lane, server })));
    }
    targets
}

/// Every lane in a thread of its own; returns when all faults are made and healed.
fn play_all(targets: Targets<'_>, events: &[Event], length: Duration, journal: &Journal) {
    thread::scope(|scope| {
        for (lane, mut target) in targets {
            scope.spawn(move || play(lane, events, length, target.as_mut(), journal));
        }
    });
}

/// Everything committed, and every window in a document.
fn settle(scene: &Scene, timeout: Duration) -> Result<()> {
    scene.wait_reduced(timeout)?;
    let kafka = &scene.kafka;
    kafka.wait_settled(&scene.sla_group(), &scene.reduced(), timeout)?;
    // Nothing comes any more: counted once.
    let records = kafka.count(&scene.reduced())?;
    wait_until("every window's document", timeout, || {
        let documents = scene.index().documents();
        let documents = documents.map_err(|error| format!("{error:#}"))?;
        let counts = documents.values();
        let counts = counts.map(|document| document.source["count"].as_u64().unwrap_or(0));
        let measured = counts.sum::<u64>();
        match measured >= records {
            true => Ok(()),
            false => Err(format!("{measured} of {records} records")),
        }
    })
}

/// The accounts of all hosts, and their orderly end; gives how many balance.
fn end_hosts(all: [&mut Hosts<'_>; 2], journal: &Journal) -> usize {
    let mut balanced = 0;
    for hosts in all {
        if let Err(error) = hosts.watch(journal) {
            journal.find("chaos", &format!("{error:#}"));
        }
        match hosts.wait_balanced() {
            Ok(number) => balanced += number,
            Err(error) => journal.find("chaos", &format!("the account: {error:#}")),
        }
        if let Err(error) = hosts.drain_all() {
            journal.find("chaos", &format!("{error:#}"));
        }
    }
    balanced
}

fn judged(who: &str, report: Result<Report>, journal: &Journal) -> Option<Report> {
    report
        .map_err(|error| journal.find(who, &format!("not judged: {error:#}")))
        .ok()
}
