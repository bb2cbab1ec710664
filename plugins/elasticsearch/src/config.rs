//! The settings of the sink: declared once; schema, defaults, documentation and redaction follow from here.

use std::time::Duration;

use reqwest::Url;
use weir_plugin_sdk::{ByteSize, Deserialize, DurationSetting, Errors, JsonSchema, Secret};

use crate::index_name::IndexPattern;
use crate::sources::{IdSource, RoutingSource, VersionSource};
use crate::tls::TlsConfig;
use crate::write_plan::{self, ConflictPolicy, TombstonePolicy, WriteMethod};

/// Most operations of one bulk; Elasticsearch's own advice is 1,000 to 5,000 small documents.
const BATCH_RECORDS_MAX: u32 = 50_000;
/// Below the 100 MB that a server takes by default (`http.max_content_length`).
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// A bulk must hold at least an action line with the longest id (512 bytes, each escaped to 6) and a small document.
const BATCH_BYTES_MIN: u64 = 8 << 10;
const BATCH_AGE_MAX: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT_MIN: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(600);
const MAX_IN_FLIGHT_MAX: u32 = 64;
const MAX_REJECTIONS_MAX: u32 = 10_000;

/// Writes each record as one document of an Elasticsearch index.
///
/// The record's value is the document. A replayed record changes nothing: the id is a function of the record, and
/// versions are external.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// Where the nodes listen: `http://host:9200` or `https://...`, with a path if a proxy needs one. Credentials do
    /// not belong here.
    #[schemars(length(min = 1))]
    pub urls: Vec<String>,
    /// The index that takes the documents: a name in lower case, an alias with one write index, or a data stream. In
    /// it, `{topic}` stands for the record's topic, and `{%Y.%m.%d}` for the date (UTC) of the record's own timestamp;
    /// %Y %m %d %H %j %G %V may be used.
    pub index: IndexPattern,
    /// What a record does: `index` (writes the whole document), `create` (writes it where none is), or `upsert`
    /// (merges its fields into the document). Default `index`; `create` for a data stream.
    #[serde(default)]
    pub write: Option<WriteMethod>,
    /// What a null value means: `reject`, or `delete` the document.
    #[serde(default)]
    pub tombstones: TombstonePolicy,
    /// With `write: create`, what a document that is there already means: `supersede` (a replay, which changes nothing)
    /// or `reject`. A replay cannot be told from another record with the same id, so `reject` may refuse records that are stored.
    #[serde(default)]
    pub on_conflict: ConflictPolicy,
    /// Where a document's id comes from: `key` (the record's key), `coordinates` (`topic+partition+offset`),
    /// `header:NAME`, `field:POINTER` (a JSON pointer into the document, such as `field:/user/id`), or `auto` (the
    /// server makes one; needs `allow_duplicates`).
    #[serde(default)]
    pub id: IdSource,
    /// Accepts that a record which is sent again becomes a second document; `id: auto` cannot prevent it.
    #[serde(default)]
    pub allow_duplicates: bool,
    /// Where a document's version comes from: `auto` (the header `weir.version`, else the source offset), `offset`,
    /// `timestamp` (of the record, milliseconds), `header:NAME`, or `none`. A document is replaced by a higher version
    /// only. With `none` the last write wins, which a request that timed out can upset. Elasticsearch takes versions
    /// with `write: index` only; with another method, and in data streams, `auto` is `none`.
    #[serde(default)]
    pub version: VersionSource,
    /// What chooses a document's shard: `none` (its id), `key`, `header:NAME` or `field:POINTER`.
    #[serde(default)]
    pub routing: RoutingSource,
    /// `index` is a data stream: documents are created only, and an absent `@timestamp` is the record's timestamp.
    #[serde(default)]
    pub data_stream: bool,
    /// `index` must be an alias: nothing is written, and nothing created, while it is none.
    #[serde(default)]
    pub require_alias: bool,
    /// User of basic authentication; needs `password`.
    #[serde(default)]
    pub username: Option<Secret>,
    /// Password of basic authentication.
    #[serde(default)]
    pub password: Option<Secret>,
    /// API key, as `id:key` or in the encoded form that Elasticsearch answers; instead of `username`.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Bearer token; instead of `username`.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    /// File that holds the password, in place of `password`. This and the two below are read again when they change.
    #[serde(default)]
    pub password_file: Option<String>,
    /// File that holds the API key, in place of `api_key`.
    #[serde(default)]
    pub api_key_file: Option<String>,
    /// File that holds the bearer token, in place of `bearer_token`.
    #[serde(default)]
    pub bearer_token_file: Option<String>,
    /// Whom to trust, and what to show, where URLs begin with `https`.
    #[serde(default)]
    pub tls: TlsConfig,
    /// The HTTP proxy to go through. Variables of the environment name none.
    #[serde(default)]
    pub proxy: Option<ProxyConfig>,
    /// When a bulk request is closed.
    #[serde(default)]
    pub batch: BatchConfig,
    /// Compresses requests.
    #[serde(default)]
    pub gzip: bool,
    /// Longest wait for one bulk request's whole answer; after it the request is sent again.
    #[serde(default = "default_request_timeout")]
    #[schemars(default = "default_request_timeout")]
    pub request_timeout: DurationSetting,
    /// Most documents of an index that are rejected for one cause while no more than as many others are stored: beyond
    /// it the index is held to be wrong, and its documents wait for its repair. 0: no such limit.
    #[serde(default = "default_max_rejections")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_rejections: u32,
    /// Most bulk requests on their way at once; fewer while the server is overloaded.
    #[serde(default = "default_max_in_flight")]
    #[schemars(range(min = 1, max = 64))]
    pub max_in_flight: u32,
}

/// A proxy between the sink and the servers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// `http://host:port`, without credentials.
    pub url: String,
    /// User of basic authentication at the proxy; needs `password`.
    #[serde(default)]
    pub username: Option<Secret>,
    /// Password of basic authentication at the proxy.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// A bulk request is closed by whichever limit it meets first.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Most records of a bulk.
    #[serde(default = "default_batch_records")]
    #[schemars(range(min = 1, max = 50_000))]
    pub records: u32,
    /// Most bytes of a bulk, before compression; also the largest document.
    #[serde(default = "default_batch_bytes")]
    #[schemars(default = "default_batch_bytes")]
    pub bytes: ByteSize,
    /// Longest wait of a record for its bulk to fill.
    #[serde(default = "default_batch_age")]
    #[schemars(default = "default_batch_age")]
    pub age: DurationSetting,
}

impl Default for BatchConfig {
    fn default() -> Self {
        BatchConfig {
            records: default_batch_records(),
            bytes: default_batch_bytes(),
            age: default_batch_age(),
        }
    }
}

/// At 1 KB a document about 1 MB a bulk, where the server's cost per request is spread out already.
fn default_batch_records() -> u32 {
    1_000
}

/// The low end of Elastic's advice (5 to 15 MB): larger bulks gain little and hold more memory on both sides.
fn default_batch_bytes() -> ByteSize {
    ByteSize(5 << 20)
}

/// Short beside the 1 s checkpoint interval, long enough to fill bulks at a few thousand records per second.
fn default_batch_age() -> DurationSetting {
    DurationSetting(Duration::from_millis(200))
}

/// Elasticsearch waits 1 min for a shard by default; the request tells it to give up at half of this.
fn default_request_timeout() -> DurationSetting {
    DurationSetting(Duration::from_secs(60))
}

/// Enough to see that it is not a few documents, few enough to look at.
fn default_max_rejections() -> u32 {
    100
}

/// Enough to keep a small cluster busy while answers travel.
fn default_max_in_flight() -> u32 {
    4
}

impl serde::Serialize for BatchConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("BatchConfig", 3)?;
        fields.serialize_field("records", &self.records)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("age", &self.age)?;
        fields.end()
    }
}

impl ElasticsearchConfig {
    /// Adds every error that the types cannot say. No message carries a secret.
    pub(crate) fn check(&self, errors: &mut Errors) {
        errors.check(
            !self.urls.is_empty(),
            "urls",
            "names no server; give at least one URL",
        );
        for (position, text) in self.urls.iter().enumerate() {
            if let Err(message) = parse_url(text) {
                errors.add(&format!("urls.{position}"), message);
            }
        }
        if let Some(rule) = self.index.broken_rule() {
            let index = self.index.as_str().escape_debug();
            errors.add("index", format!("`{index}` is no index name: it {rule}"));
        }
        write_plan::check(self, errors);
        self.check_credentials(errors);
        self.check_proxy(errors);
        self.tls.check(errors);
        self.check_limits(errors);
    }

    fn check_credentials(&self, errors: &mut Errors) {
        let user = self.username.is_some();
        let password = self.password.is_some() || self.password_file.is_some();
        errors.check(
            user || !password,
            "username",
            "is missing beside the password",
        );
        errors.check(
            password || !user,
            "password",
            "is missing beside `username`",
        );
        let pairs = [
            ("password", &self.password, &self.password_file),
            ("api_key", &self.api_key, &self.api_key_file),
            ("bearer_token", &self.bearer_token, &self.bearer_token_file),
        ];
        for (name, secret, file) in pairs {
            errors.check(
                secret.is_none() || file.is_none(),
                &format!("{name}_file"),
                format!("cannot stand beside `{name}`; use one of them"),
            );
        }
        let api_key = self.api_key.is_some() || self.api_key_file.is_some();
        let bearer = self.bearer_token.is_some() || self.bearer_token_file.is_some();
        let kinds = [user || password, api_key, bearer];
        if kinds.into_iter().filter(|given| *given).count() > 1 {
            errors.add(
                if api_key { "api_key" } else { "bearer_token" },
                "cannot stand beside other credentials; use one of `username`, `api_key` and `bearer_token`",
            );
        }
        for (name, secret) in [
            ("api_key", &self.api_key),
            ("bearer_token", &self.bearer_token),
        ] {
            let Some(secret) = secret else { continue };
            let text = secret.expose();
            errors.check(!text.is_empty(), name, "is empty");
            errors.check(
                text.bytes().all(|byte| byte.is_ascii_graphic()),
                name,
                "has characters that no such secret has; look for spaces and line ends",
            );
        }
    }

    fn check_proxy(&self, errors: &mut Errors) {
        let Some(proxy) = &self.proxy else { return };
        if let Err(message) = parse_url(&proxy.url) {
            errors.add("proxy.url", message);
        }
        errors.check(
            proxy.username.is_some() == proxy.password.is_some(),
            "proxy",
            "needs both `username` and `password`, or neither",
        );
    }

    fn check_limits(&self, errors: &mut Errors) {
        let records = (1..=BATCH_RECORDS_MAX).contains(&self.batch.records);
        errors.check(
            records,
            "batch.records",
            format!("must be 1 to {BATCH_RECORDS_MAX}"),
        );
        let bytes = (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&self.batch.bytes.0);
        errors.check(bytes, "batch.bytes", "must be 8KiB to 64MiB");
        errors.check(
            self.batch.age.0 <= BATCH_AGE_MAX,
            "batch.age",
            "must be at most 1m",
        );
        let timeout = (REQUEST_TIMEOUT_MIN..=REQUEST_TIMEOUT_MAX).contains(&self.request_timeout.0);
        errors.check(timeout, "request_timeout", "must be 100ms to 10m");
        errors.check(
            self.max_rejections <= MAX_REJECTIONS_MAX,
            "max_rejections",
            format!("must be 0 to {MAX_REJECTIONS_MAX}"),
        );
        let flights = (1..=MAX_IN_FLIGHT_MAX).contains(&self.max_in_flight);
        errors.check(
            flights,
            "max_in_flight",
            format!("must be 1 to {MAX_IN_FLIGHT_MAX}"),
        );
    }
}

/// Reads a node's URL. An error never repeats the text, which may hold a password.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must begin with http:// or https:// and name a host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials; move them to `username` and `password`".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment; give scheme, host, port and path only".into());
    }
    Ok(url)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
