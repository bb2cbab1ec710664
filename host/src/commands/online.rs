//! `weir validate --online`: what Kafka says about a file that is right in itself.

use crate::kafka::{TopicAdmin, TopicError};
use crate::topology::{Code, Report, Source, Topology, codes};

/// Asks, source by source, whether Kafka answers and has the topics. Answers the file's warnings with what was found.
pub fn ask(topology: &Topology) -> Report {
    let mut report = topology.warnings.clone();
    for pipeline in &topology.pipelines {
        for source in &pipeline.sources {
            let path = format!("pipelines.{}.sources.{}", pipeline.name, source.name);
            for (code, message, help) in ask_source(source) {
                report.add_of_file(code, &path, &message, help);
            }
        }
    }
    report
}

type Found = (Code, String, &'static str);

fn ask_source(source: &Source) -> Vec<Found> {
    let admin = match TopicAdmin::new(&source.kafka.consumer) {
        Ok(admin) => admin,
        Err(error) => return vec![unanswered(source, &error.to_string())],
    };
    let mut found = Vec::new();
    for topic in &source.topics {
        match admin.partitions(topic) {
            Ok(Some(_)) => {}
            Ok(None) => found.push((
                codes::ONLINE_TOPIC,
                format!("The source topic `{topic}` does not exist."),
                "Create it, or correct its name; until then a host waits for it.",
            )),
            Err(TopicError::Unreachable(reason) | TopicError::Refused { cause: reason, .. }) => {
                // One answer is enough: each question waits for its time limit.
                found.push(unanswered(source, &reason));
                break;
            }
        }
    }
    found
}

fn unanswered(source: &Source, reason: &str) -> Found {
    let servers = source.kafka.consumer.get("bootstrap.servers");
    let servers = servers.map_or("", String::as_str);
    (
        codes::ONLINE_KAFKA,
        format!("Kafka at `{servers}` gives no answer: {reason}."),
        "Start it, or correct the properties under `kafka:`; a host would wait for it.",
    )
}
