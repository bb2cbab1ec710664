//! What becomes of records that are on their way to a sink when their partitions go to another host (I6): those of
//! revoked partitions are finished and committed first, those of lost ones are left to the new owner.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_dev::client::{Row, wait_until};
use weir_dev::host::{Command, Folder, Host, Signal};
use weir_dev::judge::Delivery;
use weir_dev::scene::{Scene, sample_rows, shared_kafka};
use weir_document_store::{BulkFault, DocumentStore, Gate, Settings};

const SETTLED: Duration = Duration::from_secs(120);

/// Visits that are reduced, written to Kafka and to a store that answers when the test says so.
struct Held {
    scene: Scene,
    store: DocumentStore,
    gate: Gate,
    folder: Folder,
}

impl Held {
    fn new(test: &str, change: impl FnOnce(&mut Value)) -> Result<Held> {
        let store = DocumentStore::start(Settings::default())?;
        let gate = Gate::closed();
        let scene = Scene::on(test, &shared_kafka()?, &store.url());
        scene.create_visits()?;
        scene.create_reduced()?;
        let index = scene.name("copies");
        let folder = scene.folder(|topology| {
            let pipeline = scene.reduce_in(topology);
            pipeline["sinks"]["copies"] = json!({
                "type": "elasticsearch", "from": "reduced",
                "config": {
                    "urls": [store.url()], "index": index, "id": "coordinates", "version": "offset",
                },
            });
            change(pipeline);
            // Longer than any wait here: a transaction that is open for a third of it is given up.
            topology["kafka"]["producer"] = json!({ "transaction.timeout.ms": 600_000 });
        })?;
        Ok(Held {
            scene,
            store,
            gate,
            folder,
        })
    }

    fn start(&self) -> Result<Host> {
        Command::run(&self.folder, &self.scene.reduce()).start()
    }

    /// Writes the rows and waits until some of them are at the store, applied and not answered.
    fn write_and_hold(&self, rows: &[Row]) -> Result<()> {
        let held = BulkFault::HoldBeforeAnswer(self.gate.clone());
        self.store.faults().set_standing(Some(held));
        let before = self.store.observations().received();
        self.scene.kafka.write(&self.scene.visits(), rows)?;
        ensure!(
            self.store
                .observations()
                .wait_for_bulks(before + 1, SETTLED),
            "nothing was written to the store"
        );
        Ok(())
    }

    fn let_go(&self) {
        self.store.faults().set_standing(None);
        self.gate.open();
    }

    /// How many documents the store was sent, and how many of them more than once.
    fn sent(&self) -> (usize, usize) {
        let mut sent: BTreeMap<String, usize> = BTreeMap::new();
        for bulk in self.store.observations().bulks() {
            for id in bulk.ids() {
                *sent.entry(id.to_owned()).or_default() += 1;
            }
        }
        let again = sent.values().filter(|&&times| times > 1).count();
        (sent.len(), again)
    }

    fn wait_sent(&self, documents: usize) -> Result<()> {
        wait_until("every document to be sent", SETTLED, || match self.sent() {
            (sent, _) if sent == documents => Ok(()),
            other => Err(format!("{other:?}")),
        })
    }
}

/// A host joins while the first one's documents are on their way: all of them are answered and committed before their
/// partitions are given up, so nothing is read twice.
fn revoked_partitions_are_finished(test: &str, delivery: Delivery) -> Result<()> {
    let held = Held::new(test, |pipeline| {
        pipeline["delivery"] = json!(name(delivery))
    })?;
    let mut first = held.start()?;
    first.wait_ready()?;
    held.write_and_hold(&sample_rows()?)?;
    let mut second = held.start()?;
    first.wait_event("revoked", SETTLED)?;
    held.let_go();
    second.wait_ready()?;
    held.wait_sent(4_852)?;
    held.scene.wait_reduced(SETTLED)?;
    held.scene.judge_reduced(Delivery::ExactlyOnce)?;
    let (_, again) = held.sent();
    ensure!(again == 0, "{again} documents were sent again");
    ensure!(first.log.count(&["task_restarts"]) == 0);
    for host in [&mut first, &mut second] {
        let rewound = host
            .metrics()?
            .sum("weir_records_settled_total", &[("outcome", "rewound")]);
        ensure!(rewound == 0.0, "{rewound} records were given back");
        ensure!(host.drain()? == 0, "a host did not drain");
    }
    Ok(())
}

fn name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::ExactlyOnce => "exactly_once",
        Delivery::AtLeastOnce => "at_least_once",
    }
}

#[test]
fn revoked_partitions_are_finished_in_a_transaction() -> Result<()> {
    revoked_partitions_are_finished("revokedeo", Delivery::ExactlyOnce)
}

#[test]
fn revoked_partitions_are_finished_at_least_once() -> Result<()> {
    revoked_partitions_are_finished("revokedalo", Delivery::AtLeastOnce)
}

/// A host stands still for longer than its session. What it held is its successor's by then, also what was stored and not
/// committed: it tries no commit for it, and joins anew.
#[test]
fn nothing_of_lost_partitions_is_committed() -> Result<()> {
    let held = Held::new("lost", |pipeline| {
        pipeline["delivery"] = json!("at_least_once");
        // What is stored stays uncommitted, unless a call takes long.
        pipeline["checkpoint_interval"] = json!("1h");
        // What leaves for Kafka counts as settled at a commit only.
        if let Some(sinks) = pipeline["sinks"].as_object_mut() {
            sinks.remove("reduced_visits");
        }
        pipeline["on_error"] = json!({ "policy": "skip" });
    })?;
    let mut stopped = held.start()?;
    stopped.wait_ready()?;
    let sample = sample_rows()?;
    let (first, rest) = sample.split_at_checked(1_000).context("5,000 rows")?;
    held.scene.kafka.write(&held.scene.visits(), first)?;
    wait_until("a thousand rows to be settled", SETTLED, || {
        let metrics = stopped.metrics().map_err(|error| format!("{error:#}"))?;
        match metrics.sum("weir_records_settled_total", &[]) {
            1_000.0 => Ok(()),
            settled => Err(format!("{settled}")),
        }
    })?;
    held.write_and_hold(rest)?;
    stopped.signal(Signal::Stop)?;
    let mut other = held.start()?;
    other.wait_ready()?;
    stopped.signal(Signal::Continue)?;
    stopped.wait_event("lost", SETTLED)?;
    held.let_go();
    held.wait_sent(4_852)?;
    let restart = stopped.wait_event("task_restarts", SETTLED)?;
    ensure!(
        restart["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("kafka.partitions_lost")),
        "{restart}"
    );
    ensure!(
        stopped.log.count(&["commit_failed"]) == 0,
        "it tried to commit:\n{}",
        stopped.log.tail(20)
    );
    wait_until("both to be members", SETTLED, || {
        match held.scene.kafka.group(&held.scene.reduce_group()) {
            Ok((2, state)) if state == "Stable" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    ensure!(stopped.drain()? == 0 && other.drain()? == 0);
    Ok(())
}
