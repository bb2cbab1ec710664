//! Asks each host whether its pipeline is ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::host::{HostLog, PipelineLog};

const POLL: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest reason that is shown, in characters.
const REASON_MAX: usize = 160;

/// How a pipeline is, as its host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Its host has not said `ready` yet.
    Starting,
    Ready,
    NotReady {
        reason: String,
    },
    /// Its host was ready once and does not answer.
    Silent,
}

/// Asks once a second.
pub struct ReadinessReader {
    agent: ureq::Agent,
    log: Arc<Mutex<HostLog>>,
    readiness: Arc<Mutex<BTreeMap<String, Readiness>>>,
}

impl ReadinessReader {
    pub fn new(
        log: Arc<Mutex<HostLog>>,
        readiness: Arc<Mutex<BTreeMap<String, Readiness>>>,
    ) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            log,
            readiness,
        }
    }

    /// Asks until `stop`.
    pub fn run(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let pipelines = {
                let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                log.pipelines.clone()
            };
            for (name, pipeline) in pipelines {
                let readiness = self.ask(&pipeline);
                let mut known = self
                    .readiness
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                known.insert(name, readiness);
            }
            std::thread::park_timeout(POLL);
        }
    }

    fn ask(&self, pipeline: &PipelineLog) -> Readiness {
        let Some(http) = &pipeline.http else {
            // A host without HTTP has said `ready` in its log and says no more.
            return Readiness::Ready;
        };
        let Ok(mut answer) = self.agent.get(format!("http://{http}/readyz")).call() else {
            return Readiness::Silent;
        };
        if answer.status().is_success() {
            return Readiness::Ready;
        }
        let body = answer.body_mut().read_to_string().unwrap_or_default();
        Readiness::NotReady {
            reason: reason(&body),
        }
    }
}

/// The reasons of a 503 in one line: the texts below every `reasons` of its JSON, or else the body itself.
fn reason(body: &str) -> String {
    let mut texts = Vec::new();
    match serde_json::from_str::<Value>(body) {
        Ok(value) => collect_reasons(&value, false, &mut texts),
        Err(_) => texts.push(body.trim().to_owned()),
    }
    let line = texts.join("; ").replace(['\n', '\r'], " ");
    line.chars().take(REASON_MAX).collect()
}

fn collect_reasons(value: &Value, are_reasons: bool, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if are_reasons => texts.push(text.clone()),
        Value::Array(values) => {
            for value in values {
                collect_reasons(value, are_reasons, texts);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                collect_reasons(value, are_reasons || name == "reasons", texts);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_host_are_one_line() {
        assert_eq!(
            reason(r#"{"ready":false,"pipeline":"p","reasons":["a","b"]}"#),
            "a; b"
        );
        let tasks = r#"{"tasks":[{"state":"stuck","reasons":["sink\nfull"]}]}"#;
        assert_eq!(reason(tasks), "sink full");
        assert_eq!(reason(r#"{"ready":false,"tasks":[]}"#), "");
        assert_eq!(reason("not JSON\n"), "not JSON");
        assert_eq!(reason(&"x".repeat(500)).len(), REASON_MAX);
    }
}
