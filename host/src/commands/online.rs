//! `weir validate --online`: what Kafka and the targets of sinks say about a file that is right in itself.

use crate::kafka::{TopicAdmin, TopicError};
use crate::plugin::Catalog;
use crate::topology::{Code, PluginConfig, Report, SinkKind, Source, Topology, codes};

/// Asks, source by source, whether Kafka answers and has the topics, and lets each sink plugin ask its target. Answers
/// the file's warnings with what was found.
pub fn ask(topology: &Topology, catalog: &Catalog) -> Report {
    let mut report = topology.warnings.clone();
    for pipeline in &topology.pipelines {
        for source in &pipeline.sources {
            let path = format!("pipelines.{}.sources.{}", pipeline.name, source.name);
            for (code, message, help) in ask_source(source) {
                report.add_of_file(code, &path, &message, help);
            }
        }
        for sink in &pipeline.sinks {
            let SinkKind::Plugin { plugin, config, .. } = &sink.kind else {
                continue;
            };
            let path = format!("pipelines.{}.sinks.{}", pipeline.name, sink.name);
            for (code, message, help) in ask_sink(catalog, plugin, config) {
                report.add_of_file(code, &path, &message, &help);
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

fn ask_sink(catalog: &Catalog, plugin: &str, config: &PluginConfig) -> Vec<(Code, String, String)> {
    match catalog.check_target(plugin, config) {
        Ok(findings) => findings
            .into_iter()
            .map(|finding| {
                let code = match finding.is_error {
                    true => codes::ONLINE_SINK,
                    false => codes::ONLINE_SINK_WARNING,
                };
                (code, finding.message, finding.help)
            })
            .collect(),
        Err(refused) => vec![(
            codes::ONLINE_SINK,
            format!("The plugin `{plugin}` cannot be asked: {refused}."),
            "Repair the plugin, or build it anew.".to_owned(),
        )],
    }
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
