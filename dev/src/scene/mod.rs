//! The scenery of one end-to-end test: names that no other test uses, the topology of the
//! reference job with those names, and the judge applied to what lies under them.

mod sample;
mod servers;
mod store;

use std::collections::BTreeMap;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Document, Index, Kafka, Record, wait_until};
use crate::host::Folder;
use crate::judge::{Delivery, ReduceCase, Report, WindowCase, WindowRules};

pub use sample::{sample_lines, sample_rows};
pub use servers::{shared_elasticsearch, shared_kafka};
pub use store::StoreScene;

/// Windows of tests: short, so that they close soon; several per run.
pub const WINDOW_SIZE_S: i64 = 5;

/// A killed host's transaction is open for its timeout of 15 s and some seconds until the coordinator looks.
const STABLE: Duration = Duration::from_secs(60);

/// The reference job under names of its own.
#[derive(Debug, Clone)]
pub struct Scene {
    pub kafka: Kafka,
    /// With user and password in it where security is on; unused by scenes without `sla`.
    elasticsearch: String,
    id: String,
}

impl Scene {
    /// On the servers that `weir-dev with-servers` runs.
    pub fn shared(test: &str) -> Result<Scene> {
        Ok(Scene::on(test, &shared_kafka()?, &shared_elasticsearch()?))
    }

    /// On servers of the test's own.
    pub fn on(test: &str, bootstrap: &str, elasticsearch: &str) -> Scene {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos());
        Scene {
            kafka: Kafka::at(bootstrap),
            elasticsearch: elasticsearch.to_owned(),
            id: format!("{test}-{:x}-{nanos:x}", process::id()),
        }
    }

    /// A name for `what`: fit for a pipeline, a topic, a group and an index.
    pub fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.id)
    }

    pub fn visits(&self) -> String {
        self.name("visits")
    }

    pub fn reduced(&self) -> String {
        self.name("reduced")
    }

    /// The pipeline `reduce-visits` of this scene.
    pub fn reduce(&self) -> String {
        self.name("reduce")
    }

    pub fn reduce_group(&self) -> String {
        self.name("visits_reader")
    }

    pub fn reduce_dead_letters(&self) -> String {
        format!("{}.dlq", self.reduce())
    }

    /// The pipeline `visits-sla` of this scene.
    pub fn sla(&self) -> String {
        self.name("sla")
    }

    pub fn sla_group(&self) -> String {
        self.name("latency_monitor")
    }

    pub fn sla_dead_letters(&self) -> String {
        format!("{}.dlq", self.sla())
    }

    pub fn index(&self) -> Index {
        self.index_named("sla")
    }

    /// Another index of this scene.
    pub fn index_named(&self, what: &str) -> Index {
        Index::at(&self.elasticsearch, &self.name(what))
    }

    /// Both pipelines as the repository's topology has them, with short windows. JSON is YAML.
    pub fn topology(&self) -> Value {
        json!({
            "version": 1,
            "plugins": ["./plugins.d"],
            "kafka": { "bootstrap.servers": self.kafka.bootstrap() },
            "pipelines": { self.reduce(): self.reduce_pipeline(), self.sla(): self.sla_pipeline() },
        })
    }

    fn reduce_pipeline(&self) -> Value {
        json!({
            "sources": {
                "visits": {
                    "type": "kafka", "topics": [self.visits()], "group": self.reduce_group(),
                },
            },
            "transforms": {
                "reduced": { "type": "reduce-visit", "from": "visits", "config": {} },
            },
            "sinks": {
                "reduced_visits": {
                    "type": "kafka", "from": "reduced", "topic": self.reduced(),
                    "create": {
                        "partitions": 2, "config": { "message.timestamp.type": "LogAppendTime" },
                    },
                },
            },
            "on_error": { "policy": "dead_letter" },
        })
    }

    fn sla_pipeline(&self) -> Value {
        json!({
            "sources": {
                "reduced": {
                    "type": "kafka", "topics": [self.reduced()], "group": self.sla_group(),
                },
            },
            "transforms": {
                "latency": {
                    "type": "latency-window", "from": "reduced",
                    "config": { "size": format!("{WINDOW_SIZE_S}s") },
                },
            },
            "sinks": {
                "index": {
                    "type": "elasticsearch", "from": "latency",
                    "config": { "urls": [self.elasticsearch], "index": self.index().name() },
                },
            },
            "on_error": { "policy": "dead_letter" },
        })
    }

    /// A folder with the topology, after `change` has seen it.
    pub fn folder(&self, change: impl FnOnce(&mut Value)) -> Result<Folder> {
        let mut topology = self.topology();
        change(&mut topology);
        Folder::with_topology(&serde_json::to_string_pretty(&topology)?)
    }

    /// The topology's entry of the pipeline `reduce-visits`, to change it.
    pub fn reduce_in<'a>(&self, topology: &'a mut Value) -> &'a mut Value {
        &mut topology["pipelines"][self.reduce()]
    }

    /// The topology's entry of the pipeline `visits-sla`, to change it.
    pub fn sla_in<'a>(&self, topology: &'a mut Value) -> &'a mut Value {
        &mut topology["pipelines"][self.sla()]
    }

    /// The visits topic with two partitions.
    pub fn create_visits(&self) -> Result<()> {
        self.kafka.create_topic(&self.visits(), 2, &[])
    }

    /// The reduced topic as the pipeline itself would make it.
    pub fn create_reduced(&self) -> Result<()> {
        let config = [("message.timestamp.type", "LogAppendTime")];
        self.kafka.create_topic(&self.reduced(), 2, &config)
    }

    /// Waits until every visit is settled.
    pub fn wait_reduced(&self, timeout: Duration) -> Result<()> {
        self.kafka
            .wait_settled(&self.reduce_group(), &self.visits(), timeout)
    }

    /// Waits until every reduced record is committed, and stands in a document or in a dead letter: the last window
    /// closes a while after its records are in state.
    pub fn wait_measured(&self, timeout: Duration) -> Result<()> {
        self.kafka
            .wait_settled(&self.sla_group(), &self.reduced(), timeout)?;
        let dead_letters = self.sla_dead_letters();
        wait_documents(
            &self.kafka,
            &self.reduced(),
            &dead_letters,
            &self.index(),
            timeout,
        )
    }

    /// Waits until the windows' pipeline has committed a record, and its state with it.
    pub fn wait_first_cut(&self, timeout: Duration) -> Result<()> {
        wait_until("a first cut with records", timeout, || {
            let committed = self.kafka.committed(&self.sla_group(), &self.reduced());
            let committed = committed.map_err(|error| format!("{error:#}"))?;
            match committed.values().any(|offset| *offset > 0) {
                true => Ok(()),
                false => Err(format!("{committed:?}")),
            }
        })
    }

    /// Waits until the window documents count this many records.
    pub fn wait_counted(&self, records: u64, timeout: Duration) -> Result<()> {
        wait_until("windows", timeout, || {
            let documents = self.index().documents();
            let counted = counted(&documents.map_err(|error| format!("{error:#}"))?);
            match counted >= records {
                true => Ok(()),
                false => Err(format!("{counted} of {records} records")),
            }
        })
    }

    /// Judges reduced records and dead letters against the visits; an error shows differences.
    pub fn judge_reduced(&self, delivery: Delivery) -> Result<Report> {
        self.compare_reduced(delivery)?.into_result()
    }

    /// What is there of reduced records and dead letters, and what is not.
    pub fn compare_reduced(&self, delivery: Delivery) -> Result<Report> {
        self.kafka.wait_stable(&self.reduced(), STABLE)?;
        self.kafka
            .wait_stable(&self.reduce_dead_letters(), STABLE)?;
        let source = self.kafka.read(&self.visits())?;
        let reduced = self.kafka.read(&self.reduced())?;
        let dead_letters = self.kafka.read_all(&self.reduce_dead_letters())?;
        let case = ReduceCase {
            source: &source,
            reduced: &reduced,
            dead_letters: &dead_letters,
            pipeline: &self.reduce(),
            plugin: "reduce-visit",
            delivery,
        };
        Ok(case.judge())
    }

    /// Judges the window documents against the reduced records; an error shows differences.
    pub fn judge_windows(&self) -> Result<Report> {
        self.compare_windows()?.into_result()
    }

    /// What is there of window documents, and what is not.
    pub fn compare_windows(&self) -> Result<Report> {
        self.kafka.wait_stable(&self.reduced(), STABLE)?;
        let case = WindowCase {
            reduced: &self.kafka.read(&self.reduced())?,
            documents: &self.index().documents()?,
            rules: &WindowRules::of_size_s(WINDOW_SIZE_S),
        };
        Ok(case.judge())
    }
}

/// Waits until every record of `topic` stands in a document of `index` or in a dead letter.
pub fn wait_documents(
    kafka: &Kafka,
    topic: &str,
    dead_letters: &str,
    index: &Index,
    timeout: Duration,
) -> Result<()> {
    wait_until("every window's document", timeout, || {
        let seen = |error: anyhow::Error| format!("{error:#}");
        let records = kafka.count(topic).map_err(seen)?;
        let dead = kafka.read_all(dead_letters).map_err(seen)?;
        // A rejected document is a dead letter that counts for all of its records.
        let derived = |record: &&Record| record.header_text("weir.errors.derived").is_some();
        let rejected = dead.iter().filter(derived).map(|record| {
            let value = record.value.as_deref().unwrap_or_default();
            let value = serde_json::from_slice(value).unwrap_or(Value::Null);
            value["count"].as_u64().unwrap_or(0)
        });
        let bad = dead.iter().filter(|record| !derived(record)).count() as u64;
        let documents = index.documents().map_err(seen)?;
        let measured = counted(&documents) + rejected.sum::<u64>() + bad;
        match measured >= records {
            true => Ok(()),
            false => Err(format!("{measured} of {records} records")),
        }
    })
}

/// The sum of what the documents count.
fn counted(documents: &BTreeMap<String, Document>) -> u64 {
    let counts = documents.values();
    counts
        .map(|document| document.source["count"].as_u64().unwrap_or(0))
        .sum()
}

/// Judges window documents against reduced records; an error shows differences.
pub fn judge_windows(
    reduced: &BTreeMap<i32, Vec<Record>>,
    documents: &BTreeMap<String, Document>,
    rules: &WindowRules,
) -> Result<Report> {
    WindowCase {
        reduced,
        documents,
        rules,
    }
    .judge()
    .into_result()
}
