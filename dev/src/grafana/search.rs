use serde_json::Value;
use std::time::Duration;

/// Where a query is answered.
pub trait Search {
    /// Sends one header and one body as `_msearch` and gives back the one response in it.
    fn msearch(&self, header: &Value, body: &Value) -> Result<Value, SearchError>;
}

/// Elasticsearch did not answer, or not with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grafana.search: {0}")]
pub struct SearchError(pub String);

/// A server is asked once: Grafana does not repeat a query within an evaluation either. It waits 30 s, Grafana's default for an evaluation.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An Elasticsearch reached by HTTP.
#[derive(Debug)]
pub struct ElasticsearchSearch {
    msearch_url: String,
    agent: ureq::Agent,
}

impl ElasticsearchSearch {
    /// `url` without a path, as `http://127.0.0.1:9200`.
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        Self {
            msearch_url: format!("{}/_msearch", url.trim_end_matches('/')),
            agent: config.into(),
        }
    }
}

impl Search for ElasticsearchSearch {
    fn msearch(&self, header: &Value, body: &Value) -> Result<Value, SearchError> {
        let failed = |error: ureq::Error| SearchError(format!("{}: {error}", self.msearch_url));
        let text = self
            .agent
            .post(&self.msearch_url)
            .header("content-type", "application/x-ndjson")
            .send(format!("{header}\n{body}\n"))
            .and_then(|mut response| response.body_mut().read_to_string())
            .map_err(failed)?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| {
            SearchError(format!(
                "{}: the answer is no JSON: {error}",
                self.msearch_url
            ))
        })?;
        answer
            .get("responses")
            .and_then(|responses| responses.get(0))
            .cloned()
            .ok_or_else(|| {
                SearchError(format!(
                    "{}: the answer has no responses: {answer}",
                    self.msearch_url
                ))
            })
    }
}
