//! One pipeline without transforms: each record of a topic becomes the document of its key in a scriptable store.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use weir_document_store::{DocumentStore, Settings};

use crate::client::{Kafka, Record};
use crate::host::{Folder, Host};
use crate::judge::{Delivery, Documents, Report, StoredCase};

use super::{STABLE, Scene, shared_kafka};

/// The scene and the store that only it uses.
pub struct StoreScene {
    pub kafka: Kafka,
    pub store: DocumentStore,
    scene: Scene,
}

impl StoreScene {
    /// On the Kafka that `weir-dev with-servers` runs.
    pub fn shared(test: &str) -> Result<StoreScene> {
        StoreScene::on(test, &shared_kafka()?, Settings::default())
    }

    /// On a Kafka of the caller's own.
    pub fn on(test: &str, bootstrap: &str, settings: Settings) -> Result<StoreScene> {
        let store = DocumentStore::start(settings)?;
        let scene = Scene::on(test, bootstrap, &store.url());
        Ok(StoreScene {
            kafka: scene.kafka.clone(),
            store,
            scene,
        })
    }

    pub fn rows(&self) -> String {
        self.scene.name("rows")
    }

    pub fn pipeline(&self) -> String {
        self.scene.name("store")
    }

    pub fn group(&self) -> String {
        self.scene.name("store_reader")
    }

    pub fn dead_letters(&self) -> String {
        format!("{}.dlq", self.pipeline())
    }

    pub fn index(&self) -> String {
        self.scene.name("documents")
    }

    /// A folder with the topology, after `change` has seen it and the pipeline in it.
    pub fn folder(&self, change: impl FnOnce(&mut Value, &str)) -> Result<Folder> {
        let pipeline = self.pipeline();
        let mut topology = json!({
            "version": 1,
            "plugins": ["./plugins.d"],
            "kafka": { "bootstrap.servers": self.kafka.bootstrap() },
            "pipelines": { &pipeline: {
                "sources": { "rows": {
                    "type": "kafka", "topics": [self.rows()], "group": self.group(),
                } },
                "sinks": { "documents": {
                    "type": "elasticsearch", "from": "rows",
                    "config": {
                        "urls": [self.store.url()], "index": self.index(),
                        "batch": { "records": 50, "age": "10ms" },
                    },
                } },
                "on_error": { "policy": "dead_letter" },
            } },
        });
        change(&mut topology, &pipeline);
        Folder::with_topology(&serde_json::to_string_pretty(&topology)?)
    }

    /// Waits until the group has committed every row.
    pub fn wait_settled(&self, timeout: Duration) -> Result<()> {
        self.kafka
            .wait_settled(&self.group(), &self.rows(), timeout)
    }

    /// What stands in the index.
    pub fn documents(&self) -> Documents {
        let documents = self.store.documents(&self.index()).into_iter();
        documents
            .map(|document| {
                let source = document.source.get().to_owned();
                (document.id, (document.version, source))
            })
            .collect()
    }

    /// Judges documents and dead letters against the rows; an error shows differences.
    pub fn judge(&self, is_bad: &dyn Fn(&Record) -> bool, delivery: Delivery) -> Result<Report> {
        self.kafka.wait_stable(&self.dead_letters(), STABLE)?;
        StoredCase {
            source: &self.kafka.read(&self.rows())?,
            documents: &self.documents(),
            dead_letters: &self.kafka.read_all(&self.dead_letters())?,
            pipeline: &self.pipeline(),
            is_bad,
            delivery,
        }
        .judge()
        .into_result()
    }

    /// How many operations of the host's sink were answered like this so far (`stored`, `superseded`, ...).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn answered(host: &Host, outcome: &str) -> Result<u64> {
        let labels = [("outcome", outcome)];
        Ok(host.metrics()?.sum("weir_sink_items_total", &labels) as u64)
    }
}
