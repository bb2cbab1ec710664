use crate::{at, entries, root, text, yaml};
use std::collections::BTreeSet;
use weir_dev::grafana::{Dashboard, Evaluator, Provisioning, Rule};

const RULE_UID: &str = "visits-sync-sla-miss";

/// The fields of a document (CONTRACT: exactly these for the percentiles of the SLA monitor).
const DOCUMENT_FIELDS: [&str; 8] = [
    "@timestamp",
    "p50",
    "p75",
    "p90",
    "p99",
    "count",
    "min",
    "max",
];

fn provisioning() -> Provisioning {
    Provisioning::load(&root().join("docker/grafana/provisioning"))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn rule() -> Rule {
    Rule::load(&root().join("docker/grafana/provisioning"), RULE_UID)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn dashboards() -> Vec<Dashboard> {
    let folder = root().join("docker/grafana/dashboards");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|file| Dashboard::load(&file).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

#[test]
fn the_dashboard_shows_percentiles_count_threshold_and_alert() {
    let dashboards = dashboards();
    let [dashboard] = dashboards.as_slice() else {
        panic!("{} dashboards", dashboards.len())
    };
    let rule = rule();
    assert_eq!(rule.dashboard_uid.as_deref(), Some(dashboard.uid.as_str()));
    let panel = dashboard
        .panels
        .iter()
        .find(|panel| Some(panel.id) == rule.panel_id)
        .expect("the panel that the rule names");
    let fields = |panel: &weir_dev::grafana::Panel| -> BTreeSet<String> {
        panel
            .targets
            .iter()
            .flat_map(|target| target.metrics.iter().map(|metric| metric.field.clone()))
            .collect()
    };
    assert_eq!(
        fields(panel),
        ["p50", "p75", "p90", "p99"].map(str::to_owned).into()
    );
    let config = panel.field_config.as_ref().expect("fieldConfig");
    assert_eq!(
        at(&config.defaults.custom["thresholdsStyle"], &["mode"]),
        "line",
        "the threshold is drawn"
    );
    let [condition] = rule.condition.conditions.as_slice() else {
        panic!("one condition")
    };
    let bound = config
        .defaults
        .thresholds
        .steps
        .iter()
        .find_map(|step| step.value)
        .expect("a threshold");
    assert_eq!(
        condition.evaluator,
        Evaluator::Gt([bound]),
        "the line is the bound of the rule"
    );
    assert!(
        dashboard
            .panels
            .iter()
            .any(|panel| fields(panel).contains("count")),
        "visits per minute"
    );
    assert!(
        dashboard
            .panels
            .iter()
            .any(|panel| format!("{:?}", panel.kind) == "AlertList"),
        "the alert on the same page"
    );
}

#[test]
fn every_query_asks_a_provisioned_source_for_a_field_that_documents_have() {
    let provisioning = provisioning();
    let sources: BTreeSet<&str> = provisioning
        .data_sources
        .iter()
        .map(|(_, source)| source.uid.as_str())
        .collect();
    let time_fields: BTreeSet<&str> = provisioning
        .data_sources
        .iter()
        .map(|(_, source)| source.json_data.time_field.as_str())
        .collect();
    let dashboards = dashboards();
    let shown = dashboards
        .iter()
        .flat_map(|dashboard| &dashboard.panels)
        .flat_map(|panel| &panel.targets);
    for target in shown.clone() {
        let source = target.datasource.as_ref().expect("a data source");
        assert!(
            source.kind == "elasticsearch" && sources.contains(source.uid.as_str()),
            "{source:?}"
        );
    }
    let rule = rule();
    for query in shown.chain(rule.queries.iter().map(|query| &query.query)) {
        assert!(
            time_fields.contains(query.time_field.as_str()),
            "{}",
            query.time_field
        );
        for field in query
            .metrics
            .iter()
            .map(|metric| &metric.field)
            .chain(query.bucket_aggs.iter().map(|histogram| &histogram.field))
        {
            assert!(
                DOCUMENT_FIELDS.contains(&field.as_str()),
                "no document has `{field}`"
            );
        }
    }
}

#[test]
fn grafana_reads_the_index_that_the_pipeline_writes() {
    let connectors = yaml("connectors.yaml");
    let written: BTreeSet<&str> = entries(at(&connectors, &["pipelines"]))
        .flat_map(|(_, pipeline)| entries(at(pipeline, &["sinks"])))
        .filter(|(_, sink)| at(sink, &["type"]) == "elasticsearch")
        .filter_map(|(_, sink)| at(sink, &["config", "index"]).as_str())
        .collect();
    for (file, source) in provisioning().data_sources {
        assert_eq!(
            source.database,
            source.json_data.index,
            "{}: two versions of Grafana would read two indices",
            file.display()
        );
        assert!(
            written.contains(source.json_data.index.as_str()),
            "{}: nobody writes {}",
            file.display(),
            source.json_data.index
        );
    }
}

#[test]
fn grafana_sees_the_files_and_the_variables_that_they_name() {
    let compose = yaml("docker/compose.yaml");
    let grafana = at(&compose, &["services", "grafana"]);
    let mounts: Vec<&str> = crate::strings(at(grafana, &["volumes"]));
    let mounted = |folder: &str, target: &str| {
        mounts
            .iter()
            .any(|mount| *mount == format!("./grafana/{folder}:{target}:ro"))
    };
    assert!(
        mounted("provisioning", "/etc/grafana/provisioning"),
        "{mounts:?}"
    );
    let provisioning = provisioning();
    assert!(!provisioning.providers.is_empty());
    for (file, provider) in &provisioning.providers {
        let path = provider.options.path.to_str().unwrap();
        assert!(
            mounted("dashboards", path),
            "{}: {path} is not mounted",
            file.display()
        );
        assert_eq!(
            provider.folder,
            rule().folder,
            "dashboard and rule share a folder"
        );
    }
    let environment = at(grafana, &["environment"]);
    for (file, source) in &provisioning.data_sources {
        let variable = source
            .url
            .strip_prefix('$')
            .expect("the address comes from the environment");
        assert!(
            environment.get(variable).is_some(),
            "{}: compose.yaml does not set {variable}",
            file.display()
        );
    }
    let home = at(environment, &["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
        .as_str()
        .unwrap();
    let home = home
        .strip_prefix("/etc/grafana/dashboards/")
        .expect("a mounted dashboard");
    assert!(text(&format!("docker/grafana/dashboards/{home}")).contains("\"panels\""));
}
