//! The provisioning files as Grafana documents them. Unknown keys are errors here, though Grafana ignores them: a mistyped key is a
//! setting that silently does nothing.

use super::ProvisioningError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything below one provisioning folder (`datasources/`, `dashboards/`, `alerting/`), each entry with the file it stands in.
#[derive(Debug)]
pub struct Provisioning {
    pub data_sources: Vec<(PathBuf, DataSource)>,
    pub providers: Vec<(PathBuf, Provider)>,
    pub groups: Vec<(PathBuf, RuleGroup)>,
}

impl Provisioning {
    /// Reads every `*.yaml` and `*.yml` of the three folders in the order of their names.
    pub fn load(folder: &Path) -> Result<Self, ProvisioningError> {
        let mut found = Self {
            data_sources: Vec::new(),
            providers: Vec::new(),
            groups: Vec::new(),
        };
        for file in yaml_files(&folder.join("datasources"))? {
            let content: DataSourcesFile = read(&file)?;
            version_one(&file, content.api_version)?;
            found.data_sources.extend(
                content
                    .datasources
                    .into_iter()
                    .map(|entry| (file.clone(), entry)),
            );
        }
        for file in yaml_files(&folder.join("dashboards"))? {
            let content: ProvidersFile = read(&file)?;
            version_one(&file, content.api_version)?;
            found.providers.extend(
                content
                    .providers
                    .into_iter()
                    .map(|entry| (file.clone(), entry)),
            );
        }
        for file in yaml_files(&folder.join("alerting"))? {
            let content: AlertingFile = read(&file)?;
            version_one(&file, content.api_version)?;
            found.groups.extend(
                content
                    .groups
                    .into_iter()
                    .map(|entry| (file.clone(), entry)),
            );
        }
        Ok(found)
    }
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, ProvisioningError> {
    let unreadable = |error: std::io::Error| {
        ProvisioningError::new(
            "grafana.file.unreadable",
            folder,
            format!("The folder cannot be read: {error}."),
            "Check the path and its permissions.",
        )
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ProvisioningError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        ProvisioningError::new(
            "grafana.file.unreadable",
            file,
            format!("The file cannot be read: {error}."),
            "Check the path and its permissions.",
        )
    })?;
    serde_saphyr::from_str(&text).map_err(|error| {
        ProvisioningError::new(
            "grafana.file.malformed",
            file,
            format!("The file is not what Grafana documents: {error}."),
            "Correct the named key; the names and values are case-sensitive.",
        )
    })
}

fn version_one(file: &Path, version: u32) -> Result<(), ProvisioningError> {
    if version == 1 {
        return Ok(());
    }
    Err(ProvisioningError::new(
        "grafana.file.version",
        file,
        format!("apiVersion is {version}."),
        "Write `apiVersion: 1`, the only one that Grafana 9 and 10 know.",
    ))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataSourcesFile {
    #[serde(rename = "apiVersion")]
    api_version: u32,
    datasources: Vec<DataSource>,
}

/// A data source of type `elasticsearch`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataSource {
    pub name: String,
    pub uid: String,
    #[serde(rename = "type")]
    pub kind: DataSourceKind,
    pub access: Access,
    pub org_id: i64,
    /// May name environment variables of the Grafana process (`$NAME`).
    pub url: String,
    /// The index, where Grafana up to 9.5.7 looks for it.
    pub database: String,
    pub is_default: bool,
    pub editable: bool,
    pub json_data: ElasticsearchSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSourceKind {
    Elasticsearch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Proxy,
    Direct,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElasticsearchSettings {
    /// The index, where Grafana from 10.1.5 looks for it.
    pub index: String,
    pub time_field: String,
    pub time_interval: Option<String>,
    pub es_version: Option<String>,
    pub max_concurrent_shard_requests: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidersFile {
    #[serde(rename = "apiVersion")]
    api_version: u32,
    providers: Vec<Provider>,
}

/// A folder of dashboard files.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    pub name: String,
    pub org_id: i64,
    #[serde(rename = "type")]
    pub kind: ProviderKind,
    pub folder: String,
    pub disable_deletion: bool,
    pub allow_ui_updates: bool,
    pub update_interval_seconds: Option<u32>,
    pub options: ProviderOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    File,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderOptions {
    /// Where the Grafana process sees the dashboards.
    pub path: PathBuf,
    pub folders_from_files_structure: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AlertingFile {
    api_version: u32,
    groups: Vec<RuleGroup>,
}

/// Rules that are evaluated together.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleGroup {
    pub org_id: i64,
    pub name: String,
    /// Title of the folder; Grafana makes it when it is absent.
    pub folder: String,
    /// Prometheus duration between two evaluations.
    pub interval: String,
    pub rules: Vec<RuleEntry>,
}

/// One rule as the file spells it; [`super::Rule`] is what it means.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleEntry {
    pub uid: String,
    pub title: String,
    pub condition: String,
    /// Prometheus duration that a breach must last.
    #[serde(rename = "for")]
    pub pending_period: String,
    pub no_data_state: NoDataState,
    pub exec_err_state: ExecErrState,
    pub dashboard_uid: Option<String>,
    pub panel_id: Option<i64>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub is_paused: bool,
    pub data: Vec<QueryEntry>,
}

/// The values that every Grafana since 9.1 takes, case-sensitive: another one makes Grafana exit at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum NoDataState {
    Alerting,
    NoData,
    #[serde(rename = "OK")]
    Ok,
}

/// As [`NoDataState`], for a query that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ExecErrState {
    Alerting,
    Error,
    #[serde(rename = "OK")]
    Ok,
}

/// A query or an expression of a rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryEntry {
    pub ref_id: String,
    pub datasource_uid: String,
    pub relative_time_range: RelativeTimeRange,
    /// An Elasticsearch query, or an expression where `datasource_uid` is `__expr__`.
    pub model: serde_json::Value,
}

/// Seconds before the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativeTimeRange {
    pub from: u32,
    pub to: u32,
}
