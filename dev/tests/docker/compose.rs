use crate::{at, entries, root, strings, text, variables, yaml};
use serde_json::{Value, json};

const COMPOSE: &str = "docker/compose.yaml";

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    entries(at(compose, &["services"]))
}

/// The services that run a pipeline, with its name: `command: [run, NAME, ...]` of our own image.
fn hosts(compose: &Value) -> Vec<(&str, &str)> {
    services(compose)
        .filter(|(_, service)| {
            service.get("build").is_some() && service.get("entrypoint").is_none()
        })
        .map(
            |(name, service)| match strings(at(service, &["command"])).as_slice() {
                ["run", pipeline, ..] => (name, *pipeline),
                other => panic!("{name} runs {other:?}, no pipeline"),
            },
        )
        .collect()
}

fn schema_faults(compose: &Value) -> Vec<String> {
    let schema = serde_json::from_str(&text("docker/schema/compose-spec.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator
        .iter_errors(compose)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn fits_the_published_schema() {
    assert_eq!(schema_faults(&yaml(COMPOSE)), Vec::<String>::new());
}

#[test]
fn the_schema_would_see_a_mistake() {
    for (keys, value) in [
        ("/services/kafka/imagee", json!("x")),
        ("/services/kafka/ports", json!(9094)),
        ("/volume", json!({})),
    ] {
        let mut compose = yaml(COMPOSE);
        let (parent, key) = keys.rsplit_once('/').unwrap();
        compose
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .insert(key.to_owned(), value);
        assert_ne!(schema_faults(&compose), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn every_mounted_or_built_path_exists() {
    let compose = yaml(COMPOSE);
    let folder = root().join("docker");
    for (name, service) in services(&compose) {
        for volume in strings(service.get("volumes").unwrap_or(&Value::Null)) {
            let (source, target) = volume
                .split_once(':')
                .unwrap_or_else(|| panic!("{name}: anonymous volume {volume}"));
            assert!(target.starts_with('/'), "{name}: {volume}");
            match source.starts_with('.') {
                true => assert!(
                    folder.join(source).is_dir(),
                    "{name} mounts {source}, which is not there"
                ),
                false => assert!(
                    at(&compose, &["volumes"]).get(source).is_some(),
                    "{name} uses the undeclared volume {source}"
                ),
            }
        }
        if let Some(build) = service.get("build") {
            let context = folder.join(at(build, &["context"]).as_str().unwrap());
            assert!(
                context
                    .join(at(build, &["dockerfile"]).as_str().unwrap())
                    .is_file(),
                "{name} builds {build}"
            );
        }
    }
}

#[test]
fn the_start_order_waits_for_what_can_be_waited_for() {
    let compose = yaml(COMPOSE);
    for (name, service) in services(&compose) {
        for (dependency, condition) in entries(service.get("depends_on").unwrap_or(&Value::Null)) {
            let needed = at(&compose, &["services", dependency]);
            match at(condition, &["condition"]).as_str() {
                Some("service_healthy") => assert!(
                    needed.get("healthcheck").is_some(),
                    "{name} waits for {dependency}, which has no health check"
                ),
                Some("service_completed_successfully") => assert_eq!(
                    at(needed, &["restart"]),
                    "no",
                    "{dependency} never completes"
                ),
                other => panic!("{name} waits for {dependency} by {other:?}"),
            }
        }
    }
    for (service, needs) in [
        ("reduce-visits", ["kafka", "create-topics"]),
        ("visits-sla", ["kafka", "elasticsearch"]),
        ("generator", ["reduce-visits", "visits-sla"]),
    ] {
        for need in needs {
            at(&compose, &["services", service, "depends_on", need]);
        }
    }
}

#[test]
fn every_service_is_bounded_and_reachable_from_this_machine_only() {
    for (name, service) in services(&yaml(COMPOSE)) {
        for limit in ["cpus", "memory"] {
            at(service, &["deploy", "resources", "limits", limit]);
        }
        for port in strings(service.get("ports").unwrap_or(&Value::Null)) {
            assert!(
                port.starts_with("127.0.0.1:"),
                "{name} is open to the network: {port}"
            );
        }
        let image = at(service, &["image"]).as_str().unwrap();
        assert!(
            image.contains(':') && !image.ends_with(":latest"),
            "{name} has no fixed version: {image}"
        );
    }
}

#[test]
fn there_is_one_host_per_pipeline() {
    let (compose, connectors) = (yaml(COMPOSE), yaml("connectors.yaml"));
    let mut hosted: Vec<&str> = hosts(&compose)
        .into_iter()
        .map(|(_, pipeline)| pipeline)
        .collect();
    hosted.sort_unstable();
    let mut declared: Vec<&str> = entries(at(&connectors, &["pipelines"]))
        .map(|(name, _)| name)
        .collect();
    declared.sort_unstable();
    assert_eq!(hosted, declared);
}

/// A variable that the file does not name would be set in vain; one without a default would keep the host from starting.
#[test]
fn the_hosts_get_the_variables_that_the_topology_names() {
    let compose = yaml(COMPOSE);
    let named = variables(&text("connectors.yaml"));
    for (name, _) in hosts(&compose) {
        let environment = at(&compose, &["services", name, "environment"]);
        for (variable, _) in entries(environment) {
            assert!(
                named.iter().any(|(known, _)| known == variable),
                "{name} sets {variable}, which connectors.yaml does not name"
            );
        }
        for (variable, has_default) in &named {
            assert!(
                *has_default || environment.get(variable).is_some(),
                "{name} does not set {variable}, which has no default"
            );
        }
        assert_eq!(
            at(environment, &["KAFKA_BOOTSTRAP"]),
            "kafka:9092",
            "{name} would look for Kafka in its own container"
        );
    }
    assert_eq!(
        at(
            &compose,
            &[
                "services",
                "reduce-visits",
                "environment",
                "PROCESSING_DELAY"
            ]
        ),
        "${PROCESSING_DELAY:-0s}"
    );
    at(
        &compose,
        &["services", "visits-sla", "environment", "ELASTICSEARCH_URL"],
    );
}

#[test]
fn kafka_stamps_the_records_and_the_source_topics_are_made() {
    let (compose, connectors) = (yaml(COMPOSE), yaml("connectors.yaml"));
    let kafka = at(&compose, &["services", "kafka", "environment"]);
    assert_eq!(
        at(kafka, &["KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE"]),
        "LogAppendTime"
    );
    assert_eq!(at(kafka, &["KAFKA_NUM_PARTITIONS"]), "2");
    let script = strings(at(&compose, &["services", "create-topics", "command"])).concat();
    assert!(
        script.contains("message.timestamp.type=LogAppendTime")
            && script.contains("--partitions 2"),
        "{script}"
    );
    let made: Vec<&str> = script
        .split_whitespace()
        .skip_while(|word| *word != "in")
        .map(|word| word.trim_end_matches(';'))
        .collect();
    for (pipeline, declared) in entries(at(&connectors, &["pipelines"])) {
        for (source, node) in entries(at(declared, &["sources"])) {
            for topic in strings(at(node, &["topics"])) {
                assert!(
                    made.contains(&topic),
                    "nobody makes {topic}, which {pipeline}.{source} reads"
                );
            }
        }
    }
}

#[test]
fn variables_are_found_in_a_text() {
    let found = variables("a: \"${KAFKA:-localhost:9094}\" b: ${NEEDED} c: ${file:/x}");
    assert_eq!(
        found,
        [("KAFKA".to_owned(), true), ("NEEDED".to_owned(), false)]
    );
}
