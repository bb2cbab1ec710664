//! The settings of the sink: declared once; schema, defaults, documentation and redaction follow from here.

use std::borrow::Cow;
use std::time::Duration;

use elasticsearch::http::Url;
use schemars::{Schema, SchemaGenerator, json_schema};
use weir_plugin_sdk::{ByteSize, Deserialize, DurationSetting, Errors, JsonSchema, Secret};

use crate::document::Pointer;

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
/// An index name's limit in Elasticsearch.
const INDEX_NAME_MAX_BYTES: usize = 255;

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
    /// The index that takes the documents: a name in lower case, or an alias with one write index.
    pub index: String,
    /// Where a document's id comes from: `key` (the record's key), `coordinates` (`topic+partition+offset`),
    /// `header:NAME`, or `field:POINTER` (a JSON pointer into the document, such as `field:/user/id`).
    #[serde(default)]
    pub id: IdSource,
    /// Where a document's version comes from: `auto` (the header `weir.version`, else the source offset), `offset`,
    /// `timestamp` (of the record, milliseconds), `header:NAME`, or `none`. A document is replaced by a higher version
    /// only. With `none` the last write wins, which a request that timed out can upset.
    #[serde(default)]
    pub version: VersionSource,
    /// User of basic authentication; needs `password`.
    #[serde(default)]
    pub username: Option<Secret>,
    /// Password of basic authentication.
    #[serde(default)]
    pub password: Option<Secret>,
    /// API key, as `id:key` or in the encoded form that Elasticsearch answers; instead of `username`.
    #[serde(default)]
    pub api_key: Option<Secret>,
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
    /// Most bulk requests on their way at once.
    #[serde(default = "default_max_in_flight")]
    #[schemars(range(min = 1, max = 64))]
    pub max_in_flight: u32,
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

/// Enough to keep a small cluster busy while answers travel.
fn default_max_in_flight() -> u32 {
    4
}

/// Where a document's id comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum IdSource {
    #[default]
    Key,
    Coordinates,
    Header(String),
    Field(IdPointer),
}

/// A JSON pointer (RFC 6901) to a document's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPointer(pub(crate) Pointer);

/// Where a document's version comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum VersionSource {
    #[default]
    Auto,
    Offset,
    Timestamp,
    Header(String),
    None,
}

fn header_name(text: &str) -> Option<String> {
    text.strip_prefix("header:")
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

impl TryFrom<String> for IdSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "key" => return Ok(IdSource::Key),
            "coordinates" => return Ok(IdSource::Coordinates),
            _ => {}
        }
        let pointer = || text.strip_prefix("field:").and_then(Pointer::parse);
        header_name(&text)
            .map(IdSource::Header)
            .or_else(|| pointer().map(|pointer| IdSource::Field(IdPointer(pointer))))
            .ok_or_else(|| format!("`{text}` is no id; write `key`, `coordinates`, `header:NAME` or `field:/POINTER`"))
    }
}

impl TryFrom<String> for VersionSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => return Ok(VersionSource::Auto),
            "offset" => return Ok(VersionSource::Offset),
            "timestamp" => return Ok(VersionSource::Timestamp),
            "none" => return Ok(VersionSource::None),
            _ => {}
        }
        header_name(&text).map(VersionSource::Header).ok_or_else(|| {
            format!("`{text}` is no version; write `auto`, `offset`, `timestamp`, `header:NAME` or `none`")
        })
    }
}

impl serde::Serialize for IdSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            IdSource::Key => serializer.serialize_str("key"),
            IdSource::Coordinates => serializer.serialize_str("coordinates"),
            IdSource::Header(name) => serializer.collect_str(&format_args!("header:{name}")),
            IdSource::Field(pointer) => {
                serializer.collect_str(&format_args!("field:{}", pointer.0.as_str()))
            }
        }
    }
}

impl serde::Serialize for VersionSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            VersionSource::Auto => serializer.serialize_str("auto"),
            VersionSource::Offset => serializer.serialize_str("offset"),
            VersionSource::Timestamp => serializer.serialize_str("timestamp"),
            VersionSource::Header(name) => serializer.collect_str(&format_args!("header:{name}")),
            VersionSource::None => serializer.serialize_str("none"),
        }
    }
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

impl JsonSchema for IdSource {
    fn schema_name() -> Cow<'static, str> {
        "IdSource".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(key|coordinates|header:.+|field:/.*)$" })
    }
}

impl JsonSchema for VersionSource {
    fn schema_name() -> Cow<'static, str> {
        "VersionSource".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(auto|offset|timestamp|none|header:.+)$" })
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
        if let Some(rule) = broken_index_rule(&self.index) {
            errors.add(
                "index",
                format!(
                    "`{}` is no index name: it {rule}",
                    self.index.escape_debug()
                ),
            );
        }
        self.check_credentials(errors);
        self.check_limits(errors);
    }

    fn check_credentials(&self, errors: &mut Errors) {
        let (user, password) = (self.username.is_some(), self.password.is_some());
        errors.check(
            user || !password,
            "username",
            "is missing beside `password`",
        );
        errors.check(
            password || !user,
            "password",
            "is missing beside `username`",
        );
        let Some(api_key) = &self.api_key else { return };
        errors.check(
            !user && !password,
            "api_key",
            "cannot stand beside `username` and `password`; use one of them",
        );
        let text = api_key.expose();
        errors.check(!text.is_empty(), "api_key", "is empty");
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        errors.check(
            visible,
            "api_key",
            "has characters that no API key has; look for spaces and line ends",
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

/// The rule of Elasticsearch that a name breaks, as the end of a sentence.
fn broken_index_rule(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > INDEX_NAME_MAX_BYTES {
        return Some("is longer than 255 bytes");
    }
    if name == "." || name == ".." {
        return Some("may not be `.` or `..`");
    }
    if name.starts_with(['-', '_', '+']) {
        return Some("may not begin with `-`, `_` or `+`");
    }
    if name.chars().any(char::is_uppercase) {
        return Some("must be in lower case");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "\\/*?\"<>|,#:".contains(c);
    name.contains(forbidden)
        .then_some("may not contain spaces or any of \\ / * ? \" < > | , # :")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
