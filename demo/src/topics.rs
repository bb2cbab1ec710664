//! The topics of the reference job, and who makes them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::error::DemoError;

pub const VISITS: &str = "visits";
pub const REDUCED_VISITS: &str = "reduced_visits";
pub const DEAD_LETTERS: [&str; 2] = ["reduce-visits.dlq", "visits-sla.dlq"];
const CHECKPOINTS: &str = "__weir.visits-sla.checkpoints";

/// Time that a real broker has to make the topics.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The mock cluster has no admin API, so a host could not make its own topics there: all of them are made here, the
/// checkpoints with the one partition that they must have.
pub fn create_in_mock(
    cluster: &MockCluster<'static, DefaultProducerContext>,
) -> Result<(), DemoError> {
    let partitions = [(VISITS, 2), (REDUCED_VISITS, 2), (CHECKPOINTS, 1)];
    let dead_letters = DEAD_LETTERS.map(|topic| (topic, 1));
    for (topic, partitions) in partitions.into_iter().chain(dead_letters) {
        cluster
            .create_topic(topic, partitions, 1)
            .map_err(|cause| DemoError::Broker { cause })?;
    }
    Ok(())
}

/// Makes what is absent on a real broker. The latency is measured to the append time, so `reduced_visits` takes
/// LogAppendTime. The checkpoint topic is left to the host, which knows its compaction.
pub fn create_on_broker(bootstrap: &str) -> Result<(), DemoError> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .map_err(|cause| DemoError::Broker { cause })?;
    let mut topics = vec![
        new_topic(VISITS, 2),
        new_topic(REDUCED_VISITS, 2).set("message.timestamp.type", "LogAppendTime"),
    ];
    topics.extend(DEAD_LETTERS.map(|topic| new_topic(topic, 1)));
    let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT));
    let created = futures_executor::block_on(admin.create_topics(&topics, &options))
        .map_err(|cause| DemoError::Broker { cause })?;
    for outcome in created {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(DemoError::Topic { topic, code }),
        }
    }
    Ok(())
}

/// With the broker's own replication factor.
fn new_topic(name: &str, partitions: i32) -> NewTopic<'_> {
    NewTopic::new(name, partitions, TopicReplication::Fixed(-1))
}
