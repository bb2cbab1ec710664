//! One Elasticsearch index, as a test sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// One document with what the index knows beside its source.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub id: String,
    pub version: i64,
    pub source: Value,
}

/// Access to one index.
#[derive(Debug, Clone)]
pub struct Index {
    agent: ureq::Agent,
    /// With user and password in it where security is on.
    url: String,
    name: String,
}

impl Index {
    /// The index `name` of the server at `url` (`http://[user:password@]host:port`).
    pub fn at(url: &str, name: &str) -> Index {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        Index {
            agent,
            url: url.trim_end_matches('/').to_owned(),
            name: name.to_owned(),
        }
    }

    /// Of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the index with these mappings (`{"properties": ...}`).
    pub fn create(&self, mappings: &Value) -> Result<()> {
        let url = format!("{}/{}", self.url, self.name);
        let body = json!({ "mappings": mappings });
        let mut response = self.agent.put(&url).send_json(&body)?;
        if response.status() != 200 {
            bail!(
                "cannot create index {}: {}",
                self.name,
                response.body_mut().read_to_string()?
            );
        }
        Ok(())
    }

    /// Deletes the index, if there is one.
    pub fn delete(&self) -> Result<()> {
        let mut response = self
            .agent
            .delete(format!("{}/{}", self.url, self.name))
            .call()?;
        if ![200, 404].contains(&response.status().as_u16()) {
            bail!(
                "cannot delete index {}: {}",
                self.name,
                response.body_mut().read_to_string()?
            );
        }
        Ok(())
    }

    /// How many documents there are; none if the index does not exist.
    pub fn count(&self) -> Result<u64> {
        let refresh = format!("{}/{}/_refresh", self.url, self.name);
        if self.agent.post(&refresh).send_empty()?.status() == 404 {
            return Ok(0);
        }
        let url = format!("{}/{}/_count", self.url, self.name);
        let answer: Value = self.agent.get(&url).call()?.body_mut().read_json()?;
        answer["count"].as_u64().context("no count")
    }

    /// Every document by id (at most 10,000); none if the index does not exist.
    pub fn documents(&self) -> Result<BTreeMap<String, Document>> {
        let refresh = format!("{}/{}/_refresh", self.url, self.name);
        if self.agent.post(&refresh).send_empty()?.status() == 404 {
            return Ok(BTreeMap::new());
        }
        let query = json!({ "size": 10_000, "version": true, "query": { "match_all": {} } });
        let found = self.search(&query)?;
        let hits = found
            .pointer("/hits/hits")
            .and_then(Value::as_array)
            .with_context(|| format!("no hits in {found}"))?;
        hits.iter()
            .map(|hit| {
                let id = hit.get("_id").and_then(Value::as_str).context("_id")?;
                let document = Document {
                    id: id.to_owned(),
                    version: hit
                        .get("_version")
                        .and_then(Value::as_i64)
                        .context("_version")?,
                    source: hit.get("_source").context("_source")?.clone(),
                };
                Ok((document.id.clone(), document))
            })
            .collect()
    }

    /// Runs a search on the index and gives the whole answer.
    pub fn search(&self, query: &Value) -> Result<Value> {
        let url = format!("{}/{}/_search", self.url, self.name);
        let mut response = self.agent.post(&url).send_json(query)?;
        let status = response.status();
        let answer: Value = response.body_mut().read_json()?;
        if status != 200 {
            bail!("search in {} was answered {status}: {answer}", self.name);
        }
        Ok(answer)
    }
}
