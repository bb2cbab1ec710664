//! The servers and the clients that all other tests rely on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use weir_dev::client::{Index, Kafka, Row, Timestamp};
use weir_dev::scene::{Scene, shared_elasticsearch};
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer, KafkaServer};

#[test]
fn rows_come_back_as_they_were_written() -> Result<()> {
    let scene = Scene::shared("rows")?;
    let (kafka, topic) = (&scene.kafka, scene.visits());
    ensure!(
        kafka.read(&topic)?.is_empty(),
        "a look at a topic must not make it"
    );
    kafka.create_topic(&topic, 2, &[("message.timestamp.type", "CreateTime")])?;
    let mut rows = vec![
        Row::keyed("k", "v")
            .on(1)
            .at(1_717_200_000_123)
            .header("a", "1"),
        Row::default().on(1).at(5),
        Row::value([0xff, 0x00]).on(0).at(7),
    ];
    if let Some(row) = rows.first_mut() {
        row.headers.push(("null".to_owned(), None));
    }
    kafka.write(&topic, &rows)?;
    let records = kafka.read(&topic)?;
    ensure!(records.values().map(Vec::len).collect::<Vec<_>>() == [1, 2]);
    let read: Vec<Row> = [(1, 0), (1, 1), (0, 0)]
        .iter()
        .filter_map(|&(partition, offset): &(i32, usize)| {
            let record = records.get(&partition)?.get(offset)?;
            Some(Row {
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
                timestamp_ms: record.timestamp.ms(),
                partition: Some(record.partition),
            })
        })
        .collect();
    ensure!(read == rows, "{read:?}");
    ensure!(kafka.count(&topic)? == 3 && kafka.ends(&topic)? == BTreeMap::from([(0, 1), (1, 2)]));
    Ok(())
}

#[test]
fn append_times_are_the_brokers() -> Result<()> {
    let scene = Scene::shared("append")?;
    scene.create_reduced()?;
    scene
        .kafka
        .write(&scene.reduced(), &[Row::value("v").at(5)])?;
    let records = scene.kafka.read_all(&scene.reduced())?;
    let record = records.first().context("one record")?;
    ensure!(matches!(record.timestamp, Timestamp::Append(ms) if ms > 1_700_000_000_000));
    Ok(())
}

/// What an aborted transaction wrote is not there, and a group has settled a topic when it has
/// committed past the last record that counts, control records or not.
#[test]
fn only_committed_records_are_seen() -> Result<()> {
    let scene = Scene::shared("committed")?;
    let (kafka, topic, group) = (&scene.kafka, scene.visits(), scene.reduce_group());
    kafka.create_topic(&topic, 1, &[])?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("transactional.id", scene.name("writer"))
        .create()?;
    let timeout = Duration::from_secs(60);
    producer.init_transactions(timeout)?;
    for commits in [true, false] {
        producer.begin_transaction()?;
        for _ in 0..3 {
            producer
                .send(BaseRecord::<(), str>::to(&topic).payload("v"))
                .map_err(|(error, _)| error)?;
        }
        producer.flush(timeout)?;
        match commits {
            true => producer.commit_transaction(timeout)?,
            false => producer.abort_transaction(timeout)?,
        }
    }
    ensure!(kafka.count(&topic)? == 3);
    ensure!(
        kafka.ends(&topic)? == BTreeMap::from([(0, 8)]),
        "{:?}",
        kafka.ends(&topic)?
    );

    ensure!(kafka.committed(&group, &topic)?.is_empty());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", &group)
        .create()?;
    let soon = Duration::from_secs(1);
    for (offset, is_settled) in [(2, false), (3, true)] {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(offset))?;
        consumer.commit(&offsets, CommitMode::Sync)?;
        ensure!(kafka.committed(&group, &topic)? == BTreeMap::from([(0, offset)]));
        ensure!(kafka.wait_settled(&group, &topic, soon).is_ok() == is_settled);
    }
    Ok(())
}

#[test]
fn a_kafka_comes_back_on_its_port_with_its_data() -> Result<()> {
    let mut server = KafkaServer::start()?;
    let kafka = Kafka::at(server.bootstrap());
    kafka.create_topic("t", 1, &[])?;
    kafka.write("t", &[Row::value("1")])?;
    server.stop()?;
    server.restart()?;
    kafka.write("t", &[Row::value("2")])?;
    server.kill();
    server.restart()?;
    ensure!(kafka.count("t")? == 2);
    ensure!(kafka.bootstrap() == server.bootstrap());
    Ok(())
}

#[test]
fn documents_come_back_with_their_versions() -> Result<()> {
    let url = shared_elasticsearch()?;
    let index = Index::at(&url, &Scene::shared("docs")?.name("docs"));
    ensure!(
        index.documents()?.is_empty(),
        "an index that does not exist has no documents"
    );
    index.create(&json!({ "properties": { "p50": { "type": "double" } } }))?;
    let put = format!(
        "{url}/{}/_doc/a?version=7&version_type=external",
        index.name()
    );
    ureq::put(&put).send_json(json!({ "p50": 12.0, "count": 3 }))?;
    let documents = index.documents()?;
    let document = documents.get("a").context("a document")?;
    ensure!(document.version == 7, "{document:?}");
    // The source comes back as it was written: a decimal stays one.
    ensure!(document.source["p50"].is_f64() && document.source["count"].is_u64());
    Ok(())
}

#[test]
fn an_elasticsearch_with_security_refuses_strangers_and_keeps_its_data() -> Result<()> {
    let mut server = ElasticsearchServer::start(ElasticsearchOptions {
        password: Some("a-password".to_owned()),
        ..ElasticsearchOptions::default()
    })?;
    let stranger = Index::at(&server.url(), "docs");
    ensure!(
        stranger.create(&json!({})).is_err(),
        "a stranger made an index"
    );
    let url = server
        .url()
        .replace("http://", "http://elastic:a-password@");
    Index::at(&url, "docs").create(&json!({}))?;
    server.kill();
    server.restart()?;
    ensure!(
        Index::at(&url, "docs").create(&json!({})).is_err(),
        "the index is gone"
    );
    ensure!(Index::at(&url, "docs").documents()?.is_empty());
    Ok(())
}
