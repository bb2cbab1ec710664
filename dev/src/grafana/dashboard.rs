//! A dashboard file as far as it must fit the rest: its queries, its thresholds and its names. What a panel of a kind may have in
//! `options` and `fieldConfig.defaults.custom` is checked against Grafana's own published types by `docker/lint`.

use super::query::{DataSourceRef, ElasticsearchQuery};
use super::{ProvisioningError, parse_duration_ms};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The JSON model of a dashboard.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dashboard {
    pub uid: String,
    pub title: String,
    pub tags: Vec<String>,
    pub timezone: String,
    pub schema_version: u32,
    pub version: u32,
    pub editable: bool,
    pub graph_tooltip: u8,
    pub refresh: String,
    pub time: TimeRange,
    pub templating: List,
    pub annotations: List,
    pub links: Vec<Value>,
    pub panels: Vec<Panel>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub list: Vec<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Panel {
    pub id: i64,
    #[serde(rename = "type")]
    pub kind: PanelKind,
    pub title: String,
    pub description: Option<String>,
    pub grid_pos: GridPos,
    pub datasource: Option<DataSourceRef>,
    pub field_config: Option<FieldConfig>,
    #[serde(default)]
    pub options: serde_json::Map<String, Value>,
    #[serde(default)]
    pub targets: Vec<ElasticsearchQuery>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PanelKind {
    Timeseries,
    Stat,
    AlertList,
}

/// Columns and rows of Grafana's grid, which is 24 columns wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridPos {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

impl GridPos {
    fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.w
            && other.x < self.x + self.w
            && self.y < other.y + other.h
            && other.y < self.y + self.h
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    pub defaults: FieldDefaults,
    pub overrides: Vec<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldDefaults {
    pub unit: String,
    pub min: Option<f64>,
    pub color: Value,
    #[serde(default)]
    pub custom: serde_json::Map<String, Value>,
    pub thresholds: Thresholds,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub mode: ThresholdMode,
    pub steps: Vec<Threshold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdMode {
    Absolute,
}

/// From `value` on (`None` is minus infinity) the colour holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub color: String,
    pub value: Option<f64>,
}

impl Dashboard {
    /// Reads and checks one dashboard file.
    pub fn load(file: &Path) -> Result<Self, ProvisioningError> {
        let refuse =
            |code, cause: String, cure: &str| ProvisioningError::new(code, file, cause, cure);
        let text = std::fs::read_to_string(file).map_err(|error| {
            refuse(
                "grafana.file.unreadable",
                format!("The file cannot be read: {error}."),
                "Check the path and its permissions.",
            )
        })?;
        let dashboard: Self = serde_json::from_str(&text).map_err(|error| {
            refuse(
                "grafana.file.malformed",
                format!("The file is no dashboard: {error}."),
                "Correct the named key.",
            )
        })?;
        match dashboard.faults().into_iter().next() {
            Some(fault) => Err(refuse(
                "grafana.dashboard.wrong",
                fault,
                "Correct the dashboard.",
            )),
            None => Ok(dashboard),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if parse_duration_ms(&self.refresh).is_none() {
            faults.push(format!("The refresh `{}` is no duration.", self.refresh));
        }
        for (index, panel) in self.panels.iter().enumerate() {
            faults.extend(panel.faults());
            for other in self.panels.iter().take(index) {
                if other.id == panel.id {
                    faults.push(format!("Two panels have the id {}.", panel.id));
                }
                if other.grid_pos.overlaps(panel.grid_pos) {
                    faults.push(format!(
                        "The panels `{}` and `{}` overlap.",
                        other.title, panel.title
                    ));
                }
            }
        }
        faults
    }
}

impl Panel {
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .targets
            .iter()
            .flat_map(ElasticsearchQuery::faults)
            .collect();
        if self.grid_pos.x + self.grid_pos.w > 24 {
            faults.push(format!(
                "Panel `{}` leaves the grid of 24 columns.",
                self.title
            ));
        }
        if self
            .targets
            .iter()
            .any(|target| target.datasource != self.datasource)
        {
            faults.push(format!(
                "A target of panel `{}` names another data source than the panel.",
                self.title
            ));
        }
        for (index, target) in self.targets.iter().enumerate() {
            if self
                .targets
                .iter()
                .take(index)
                .any(|other| other.ref_id == target.ref_id)
            {
                faults.push(format!(
                    "Two targets of panel `{}` have the refId {}.",
                    self.title, target.ref_id
                ));
            }
        }
        faults
    }
}
