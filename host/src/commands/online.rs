//! `weir validate --online`: is what the file names there? Asks Kafka only; a sink plugin has no such question yet.

use crate::kafka::{TopicAdmin, TopicError};
use crate::topology::{Code, Diagnostic, Pipeline, Report, Source, Topology, codes};

/// Adds what Kafka says to the topology's warnings.
///
/// # Errors
/// The report, when a broker does not answer.
pub fn check(mut topology: Topology) -> Result<Topology, Report> {
    let file = topology.path.display().to_string();
    let found: Vec<Diagnostic> = topology
        .pipelines
        .iter()
        .flat_map(|pipeline| check_pipeline(&file, pipeline))
        .collect();
    topology.warnings.diagnostics.extend(found);
    if topology.warnings.has_errors() {
        return Err(topology.warnings);
    }
    Ok(topology)
}

fn check_pipeline(file: &str, pipeline: &Pipeline) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for source in &pipeline.sources {
        let path = format!("pipelines.{}.sources.{}", pipeline.name, source.name);
        match missing_topics(source) {
            Ok(missing) => found.extend(missing.into_iter().map(|topic| {
                let message = format!("The source topic `{topic}` does not exist.");
                let help = "Create it; a host would wait for it.";
                diagnostic(
                    codes::ONLINE_TOPIC,
                    file,
                    &format!("{path}.topics"),
                    message,
                    help,
                )
            })),
            Err(reason) => {
                let brokers = source.kafka.consumer.get("bootstrap.servers");
                let brokers = brokers.map_or("", String::as_str);
                let message = format!("Kafka at {brokers} does not answer: {reason}.");
                let help = "Start it, or correct `bootstrap.servers`; a host would wait for it.";
                found.push(diagnostic(codes::ONLINE_KAFKA, file, &path, message, help));
            }
        }
    }
    found
}

fn missing_topics(source: &Source) -> Result<Vec<&str>, String> {
    let admin = TopicAdmin::new(&source.kafka.consumer).map_err(|error| error.to_string())?;
    let mut missing = Vec::new();
    for topic in &source.topics {
        match admin.partitions(topic) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(topic.as_str()),
            Err(TopicError::Unreachable(reason)) => return Err(reason),
            Err(refused @ TopicError::Refused { .. }) => return Err(refused.to_string()),
        }
    }
    Ok(missing)
}

fn diagnostic(code: Code, file: &str, path: &str, message: String, help: &str) -> Diagnostic {
    Diagnostic {
        code,
        severity: code.severity(),
        file: file.to_owned(),
        line: 0,
        column: 0,
        path: path.to_owned(),
        message,
        help: help.to_owned(),
        span: 0..0,
    }
}
