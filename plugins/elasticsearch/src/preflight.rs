//! What the servers say of themselves and of the index, before anything is written: each finding its own sentence.
//!
//! `GET /` may be answered 405 (stripped builds) or 403 (small rights), so nothing depends on it, and no request carries
//! a version header, which one product or another would refuse.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use weir_plugin_sdk::Findings;

use crate::client::Client;
use crate::config::ElasticsearchConfig;
use crate::endpoint::Endpoint;
use crate::write_plan::{Action, WritePlan};

/// Longest wait for one answer; a check asks each node once or twice, and one of them some six questions.
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// Who answers at a URL.
#[derive(Debug, PartialEq, Eq)]
enum Product {
    Elasticsearch(u64, u64),
    OpenSearch(u64),
    /// It answers, and does not say what it is.
    Unnamed,
}

/// Asks every node who it is, and one of those that answer about the index. Errors of the set-up become findings.
pub(crate) async fn check(config: &ElasticsearchConfig, findings: &mut Findings) {
    let client = match Client::new(config) {
        Ok(client) => client,
        Err(reason) => {
            findings.error(
                format!("The client cannot be made: {reason}."),
                "Correct the file or setting that it names.",
            );
            return;
        }
    };
    let patience = PATIENCE_MAX.min(config.request_timeout.0);
    let mut answering = None;
    for endpoint in client.endpoints() {
        let target = Target { endpoint, patience };
        if target.check_node(findings).await {
            answering.get_or_insert(endpoint);
        }
        target.check_transport(config, findings);
    }
    if let Some(endpoint) = answering {
        let target = Target { endpoint, patience };
        target.check_limits(config, findings).await;
        if let Some(index) = config.index.fixed() {
            target.check_rights(config, index, findings).await;
            target.check_index(config, index, findings).await;
        }
    }
}

/// A node and how long to wait for it.
struct Target<'e> {
    endpoint: &'e Endpoint,
    patience: Duration,
}

impl Target<'_> {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), String> {
        self.endpoint.ask(method, path, body, self.patience).await
    }

    async fn get(&self, path: &str) -> Result<(u16, Value), String> {
        self.ask(Method::GET, path, None).await
    }

    /// True if the node can be asked more.
    async fn check_node(&self, findings: &mut Findings) -> bool {
        let name = self.endpoint.name();
        let (status, root) = match self.get("").await {
            Ok(answer) => answer,
            Err(reason) => {
                findings.error(
                    format!("The node {name} gives no answer: {reason}."),
                    "Start it, or correct its URL or `tls`; a host would wait for it and use the other nodes.",
                );
                return false;
            }
        };
        if status == 401 {
            findings.error(
                format!("The node {name} refuses the credentials (status 401)."),
                "Correct `username`, `api_key` or `bearer_token`; a host would wait for their repair.",
            );
            return false;
        }
        let mut product = product_of(root.get("version"));
        if product == Product::Unnamed {
            let path = "_nodes/_local?filter_path=nodes.*.version";
            if let Ok((200, answer)) = self.get(path).await {
                let node = answer.get("nodes").and_then(Value::as_object);
                let node = node.and_then(|nodes| nodes.values().next());
                product = product_of(
                    node.map(|node| json!({ "number": node["version"] }))
                        .as_ref(),
                );
            }
        }
        self.judge_product(&product, status, findings)
    }

    fn judge_product(&self, product: &Product, status: u16, findings: &mut Findings) -> bool {
        let name = self.endpoint.name();
        match product {
            Product::Elasticsearch(7, 17..) | Product::Elasticsearch(8 | 9, _) => {}
            // 7: OpenSearch 1 with `compatibility.override_main_response_version`.
            Product::OpenSearch(1..=3 | 7) => {}
            Product::Elasticsearch(major, minor) => findings.warning(
                format!("The node {name} is Elasticsearch {major}.{minor}, which this sink is not made for."),
                "Use Elasticsearch 7.17, 8 or 9.",
            ),
            Product::OpenSearch(major) => findings.warning(
                format!("The node {name} is OpenSearch {major}, which this sink is not made for."),
                "Use OpenSearch 1, 2 or 3.",
            ),
            Product::Unnamed if status == 200 => {
                findings.error(
                    format!("The node {name} answers, but not as Elasticsearch or OpenSearch does."),
                    "Correct its URL; a path before the API belongs into it.",
                );
                return false;
            }
            // Some builds and rights keep the version to themselves.
            Product::Unnamed => {}
        }
        true
    }

    fn check_transport(&self, config: &ElasticsearchConfig, findings: &mut Findings) {
        let has_credentials = config.username.is_some()
            || config.api_key.is_some()
            || config.api_key_file.is_some()
            || config.bearer_token.is_some()
            || config.bearer_token_file.is_some();
        if has_credentials && self.endpoint.is_plain_and_far() {
            findings.warning(
                format!(
                    "The credentials travel unencrypted to {}.",
                    self.endpoint.name()
                ),
                "Use `https` and `tls`.",
            );
        }
    }

    async fn check_limits(&self, config: &ElasticsearchConfig, findings: &mut Findings) {
        let path = "_nodes/_local/http?filter_path=nodes.*.http.max_content_length_in_bytes";
        let Ok((200, answer)) = self.get(path).await else {
            return;
        };
        let nodes = answer.get("nodes").and_then(Value::as_object);
        let limit = nodes
            .and_then(|nodes| nodes.values().next())
            .and_then(|node| node.pointer("/http/max_content_length_in_bytes"))
            .and_then(Value::as_u64);
        if let Some(limit) = limit.filter(|limit| *limit < config.batch.bytes.0) {
            findings.warning(
                format!(
                    "The servers take requests of {limit} bytes at most, and `batch.bytes` allows {}.",
                    config.batch.bytes.0
                ),
                "Lower `batch.bytes`, or raise `http.max_content_length`; until then larger bulks are refused once and divided.",
            );
        }
    }

    async fn check_rights(
        &self,
        config: &ElasticsearchConfig,
        index: &str,
        findings: &mut Findings,
    ) {
        let plan = WritePlan::of(config);
        let mut privileges = vec![match plan.action {
            Action::Create => "create_doc",
            Action::Index | Action::Update | Action::Delete => "index",
        }];
        if plan.deletes {
            privileges.push("delete");
        }
        let body = json!({ "index": [{ "names": [index], "privileges": privileges }] });
        // Without security there is no such question, and OpenSearch has none of this name.
        let Ok((200, answer)) = self
            .ask(Method::POST, "_security/user/_has_privileges", Some(body))
            .await
        else {
            return;
        };
        for privilege in privileges {
            let held = answer.get("index").and_then(|indices| indices.get(index));
            if held.and_then(|held| held.get(privilege)) == Some(&Value::Bool(false)) {
                findings.error(
                    format!("The credentials lack the privilege `{privilege}` on `{index}`."),
                    "Grant it to the user or key; a host would wait for that.",
                );
            }
        }
    }

    async fn check_index(
        &self,
        config: &ElasticsearchConfig,
        index: &str,
        findings: &mut Findings,
    ) {
        match self.get(&path_of(index)).await {
            Ok((200, Value::Object(found))) => {
                check_kind(config, index, &found, findings);
                for (name, state) in &found {
                    check_state(name, state, findings);
                }
            }
            Ok((404, _)) => self.check_creation(config, index, findings).await,
            // Rights to write need no rights to look.
            _ => {}
        }
    }

    async fn check_creation(
        &self,
        config: &ElasticsearchConfig,
        index: &str,
        findings: &mut Findings,
    ) {
        if config.require_alias {
            findings.error(
                format!("The alias `{index}` does not exist, and `require_alias` asks for it."),
                "Create it with a write index; a host would wait for it.",
            );
            return;
        }
        let path = "_cluster/settings?include_defaults=true&flat_settings=true&filter_path=*.action.auto_create_index";
        let Ok((200, settings)) = self.get(path).await else {
            return;
        };
        let scopes = ["transient", "persistent", "defaults"];
        let setting = scopes.iter().find_map(|scope| {
            settings
                .get(scope)?
                .get("action.auto_create_index")?
                .as_str()
        });
        if setting == Some("false") {
            findings.error(
                format!("The index `{index}` does not exist, and writes do not create one (`action.auto_create_index`)."),
                "Create it; a host would wait for it.",
            );
        }
    }
}

fn path_of(index: &str) -> String {
    // An index name has no character that a URL would have to escape but those beyond ASCII and `%`, which the URL's own
    // parser escapes.
    format!(
        "{}?flat_settings=true&expand_wildcards=all",
        index.replace('%', "%25")
    )
}

/// `number` and, in OpenSearch, `distribution` of a version object.
fn product_of(version: Option<&Value>) -> Product {
    let text = |name: &str| version?.get(name)?.as_str();
    let mut numbers = text("number")
        .unwrap_or_default()
        .split('.')
        .map(str::parse::<u64>);
    let (Some(Ok(major)), minor) = (numbers.next(), numbers.next()) else {
        return Product::Unnamed;
    };
    match text("distribution") {
        Some("opensearch") => Product::OpenSearch(major),
        // A node's own information names no distribution; no Elasticsearch below 5 is about any more.
        _ if major < 5 => Product::OpenSearch(major),
        _ => Product::Elasticsearch(major, minor.and_then(Result::ok).unwrap_or(0)),
    }
}

/// Whether the name is what the settings take it for: an index, an alias with a write index, a data stream.
fn check_kind(
    config: &ElasticsearchConfig,
    index: &str,
    found: &serde_json::Map<String, Value>,
    findings: &mut Findings,
) {
    let is_stream = found
        .values()
        .any(|state| state.get("data_stream").is_some());
    if is_stream && !config.data_stream {
        findings.error(
            format!("`{index}` is a data stream, which takes no writes but `create`."),
            "Set `data_stream: true`.",
        );
    } else if !is_stream && config.data_stream {
        findings.error(
            format!("`{index}` is no data stream, as `data_stream: true` takes it for."),
            "Leave `data_stream` out, or name a data stream.",
        );
    }
    if found.contains_key(index) {
        if config.require_alias {
            findings.error(
                format!("`{index}` is an index, and `require_alias` asks for an alias."),
                "Name an alias, or leave `require_alias` out.",
            );
        }
        return;
    }
    // An alias of one index writes there unless it says otherwise.
    let takes_writes = |state: &Value| {
        let flag = state.pointer(&format!("/aliases/{index}/is_write_index"));
        flag.and_then(Value::as_bool).unwrap_or(found.len() == 1)
    };
    let writable = found.values().filter(|state| takes_writes(state)).count();
    if !is_stream && writable != 1 {
        findings.error(
            format!(
                "The alias `{index}` has no write index among its {}.",
                found.len()
            ),
            "Mark one of them with `is_write_index`.",
        );
    }
}

/// Blocks, and how durable an acknowledged write is.
fn check_state(name: &str, state: &Value, findings: &mut Findings) {
    let setting = |key: &str| {
        state
            .get("settings")
            .and_then(|settings| settings.get(key)?.as_str())
    };
    for block in ["write", "read_only", "read_only_allow_delete"] {
        if setting(&format!("index.blocks.{block}")) == Some("true") {
            findings.error(
                format!("The index `{name}` is closed for writing by `index.blocks.{block}`."),
                "Lift the block; a host would wait for that.",
            );
        }
    }
    if setting("index.translog.durability") == Some("async") {
        findings.warning(
            format!("The index `{name}` acknowledges documents before they are on disk (`index.translog.durability: async`)."),
            "Set it to `request`, or accept that a crash of the server loses the last seconds.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_56_products_are_told_apart() {
        let product = |version: Value| product_of(Some(&version));
        assert_eq!(
            product(json!({ "number": "7.17.29" })),
            Product::Elasticsearch(7, 17)
        );
        assert_eq!(
            product(json!({ "number": "9.3.0-SNAPSHOT" })),
            Product::Elasticsearch(9, 3)
        );
        let opensearch = json!({ "number": "2.19.1", "distribution": "opensearch" });
        assert_eq!(product(opensearch), Product::OpenSearch(2));
        assert_eq!(
            product(json!({ "number": "3.1.0" })),
            Product::OpenSearch(3)
        );
        // OpenSearch 1 may say that it is 7.10.2 to please old clients; its distribution still tells.
        let pleasing = json!({ "number": "7.10.2", "distribution": "opensearch" });
        assert_eq!(product(pleasing), Product::OpenSearch(7));
        assert_eq!(product(json!({ "number": 8 })), Product::Unnamed);
        assert_eq!(product_of(None), Product::Unnamed);
    }
}
