//! Indices and documents with their versions, in bounded memory; aliases and data streams as far as writes see them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::bulk::{Action, Operation, VersionType};
use crate::error::ApiError;
use crate::timestamp;

/// Elasticsearch's default of `index.gc_deletes`.
const GC_DELETES: Duration = Duration::from_secs(60);

/// A stored document.
#[derive(Debug, Clone)]
pub struct Document {
    pub id: String,
    pub version: i64,
    pub seq_no: u64,
    /// The source exactly as it was sent.
    pub source: Box<RawValue>,
    /// `@timestamp` in milliseconds since the Unix epoch, where the source has one.
    pub timestamp_ms: Option<i64>,
}

impl Document {
    /// The source as JSON. Numbers beyond 64 bits are null here; [`Document::source`] keeps their text.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.source.get()).unwrap_or(Value::Null)
    }

    /// A field's value; `a.b` looks into objects, and a field whose name holds dots is found as well.
    pub(crate) fn field(&self, path: &str) -> Option<Value> {
        let source = self.json();
        if let Some(value) = source.get(path) {
            return Some(value.clone());
        }
        path.split('.')
            .try_fold(&source, |value, name| value.get(name))
            .cloned()
    }
}

/// What became of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub id: String,
    pub outcome: Result<Stored, ApiError>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub version: i64,
    pub seq_no: u64,
    pub result: &'static str,
    pub status: u16,
}

#[derive(Default)]
pub(crate) struct Index {
    documents: HashMap<String, Document>,
    tombstones: HashMap<String, (i64, Instant)>,
}

impl Index {
    /// Documents in the order in which they were last written.
    pub fn documents(&self) -> Vec<&Document> {
        let mut documents: Vec<&Document> = self.documents.values().collect();
        documents.sort_unstable_by_key(|document| document.seq_no);
        documents
    }

    pub fn document(&self, id: &str) -> Option<&Document> {
        self.documents.get(id)
    }

    /// The version that an external one must beat: the document's, or that of a tombstone younger than `gc_deletes`.
    fn current_version(&self, id: &str, gc_deletes: Duration) -> Option<i64> {
        if let Some(document) = self.documents.get(id) {
            return Some(document.version);
        }
        let (version, deleted_at) = self.tombstones.get(id)?;
        (deleted_at.elapsed() < gc_deletes).then_some(*version)
    }
}

/// All indices. Both limits hold over all of them together.
pub(crate) struct Storage {
    indices: BTreeMap<String, Index>,
    /// The index that takes the writes of each alias, if one does.
    aliases: BTreeMap<String, Option<String>>,
    data_streams: BTreeSet<String>,
    /// A write to an index that is not there creates it.
    auto_create: bool,
    /// How long a delete's version is remembered; an older write that comes later brings the document back.
    gc_deletes: Duration,
    documents_max: usize,
    bytes_max: usize,
    documents: usize,
    bytes: usize,
    next_seq_no: u64,
}

impl Storage {
    pub fn new(documents_max: usize, bytes_max: usize) -> Self {
        Self {
            indices: BTreeMap::new(),
            aliases: BTreeMap::new(),
            data_streams: BTreeSet::new(),
            auto_create: true,
            gc_deletes: GC_DELETES,
            documents_max,
            bytes_max,
            documents: 0,
            bytes: 0,
            next_seq_no: 0,
        }
    }

    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indices.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.indices.keys().map(String::as_str)
    }

    /// True if the index is new.
    pub fn create_index(&mut self, name: &str) -> bool {
        let absent = !self.indices.contains_key(name);
        self.indices.entry(name.to_owned()).or_default();
        absent
    }

    /// True if the index existed.
    pub fn delete_index(&mut self, name: &str) -> bool {
        let Some(index) = self.indices.remove(name) else {
            return false;
        };
        self.documents = self.documents.saturating_sub(index.documents.len());
        let bytes: usize = index.documents.values().map(weight).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }

    /// Writes to `alias` go to `write_index`, or nowhere.
    pub fn put_alias(&mut self, alias: &str, write_index: Option<&str>) {
        self.aliases
            .insert(alias.to_owned(), write_index.map(str::to_owned));
    }

    pub fn create_data_stream(&mut self, name: &str) {
        self.data_streams.insert(name.to_owned());
        self.create_index(name);
    }

    pub fn set_auto_create(&mut self, on: bool) {
        self.auto_create = on;
    }

    pub fn set_gc_deletes(&mut self, gc_deletes: Duration) {
        self.gc_deletes = gc_deletes;
    }

    /// What `GET /name` says of an index, an alias or a data stream.
    pub fn describe(&self, name: &str) -> Option<Value> {
        if let Some(write_index) = self.aliases.get(name) {
            let index = write_index.as_deref().unwrap_or("behind-the-alias");
            let alias = json!({ name: { "is_write_index": write_index.is_some() } });
            return Some(json!({ index: { "aliases": alias, "mappings": {}, "settings": {} } }));
        }
        self.indices.get(name)?;
        let mut state = json!({ "aliases": {}, "mappings": {}, "settings": {} });
        if self.data_streams.contains(name)
            && let Some(state) = state.as_object_mut()
        {
            state.insert("data_stream".to_owned(), name.into());
            return Some(json!({ format!(".ds-{name}-000001"): state }));
        }
        Some(json!({ name: state }))
    }

    /// Applies one operation; the operations of a request are applied in their order.
    pub fn apply(&mut self, operation: &Operation, require_alias: bool) -> Applied {
        let id = operation
            .id
            .clone()
            .unwrap_or_else(|| format!("auto-{:016x}", self.next_seq_no));
        let outcome = self.resolve(operation, require_alias).and_then(|index| {
            check_id(&id)?;
            let operation = &Operation {
                index,
                ..operation.clone()
            };
            match operation.action {
                Action::Index | Action::Create => self.write(operation, &id),
                Action::Delete => self.delete(operation, &id),
                Action::Update => self.update(operation, &id),
            }
        });
        Applied { id, outcome }
    }

    /// The index that an operation goes to.
    fn resolve(&self, operation: &Operation, require_alias: bool) -> Result<String, ApiError> {
        let name = &operation.index;
        check_index_name(name)?;
        if let Some(write_index) = self.aliases.get(name) {
            let missing = || {
                ApiError::illegal_argument(format!(
                    "no write index is defined for alias [{name}]. The write index may be explicitly disabled using \
                     is_write_index=false or the alias points to multiple indices without one being designated as a \
                     write index"
                ))
            };
            return write_index.clone().ok_or_else(missing);
        }
        if require_alias {
            let reason = format!(
                "no such index [{name}] and [require_alias] request flag is [true] and [{name}] is not an alias"
            );
            return Err(ApiError::new(404, "index_not_found_exception", reason));
        }
        if self.data_streams.contains(name) && operation.action != Action::Create {
            return Err(ApiError::illegal_argument(
                "only write ops with an op_type of create are allowed in data streams",
            ));
        }
        if !self.auto_create && !self.indices.contains_key(name) {
            return Err(ApiError::index_not_found(name));
        }
        Ok(name.clone())
    }

    fn update(&mut self, operation: &Operation, id: &str) -> Result<Stored, ApiError> {
        let parsing = |error: serde_json::Error| {
            ApiError::new(400, "x_content_parse_exception", error.to_string())
        };
        let request: UpdateRequest = serde_json::from_slice(&operation.source).map_err(parsing)?;
        let current = self
            .index(&operation.index)
            .and_then(|index| index.document(id));
        let merged = match current.map(Document::json) {
            Some(mut document) => {
                merge(&mut document, request.doc);
                document
            }
            None if request.doc_as_upsert => request.doc,
            None => {
                let reason = format!("[{id}]: document missing");
                return Err(ApiError::new(404, "document_missing_exception", reason));
            }
        };
        let whole = Operation {
            action: Action::Index,
            source: Bytes::from(merged.to_string()),
            ..operation.clone()
        };
        self.write(&whole, id)
    }

    fn write(&mut self, operation: &Operation, id: &str) -> Result<Stored, ApiError> {
        let (source, timestamp_ms) = parse_source(&operation.source)?;
        if timestamp_ms.is_none() && self.data_streams.contains(&operation.index) {
            let reason = "[1:1] data stream timestamp field [@timestamp] is missing";
            return Err(ApiError::new(400, "document_parsing_exception", reason));
        }
        let index = self.indices.entry(operation.index.clone()).or_default();
        let old_weight = index.documents.get(id).map(weight);
        if operation.action == Action::Create
            && let Some(document) = index.documents.get(id)
        {
            return Err(conflict(format!(
                "[{id}]: version conflict, document already exists (current version [{}])",
                document.version
            )));
        }
        let version = next_version(operation, id, index.current_version(id, self.gc_deletes))?;
        let document = Document {
            id: id.to_owned(),
            version,
            seq_no: self.next_seq_no,
            source,
            timestamp_ms,
        };
        let documents = self.documents + usize::from(old_weight.is_none());
        let bytes = self.bytes - old_weight.unwrap_or(0) + weight(&document);
        if documents > self.documents_max || bytes > self.bytes_max {
            return Err(full(&operation.index, self.documents_max, self.bytes_max));
        }
        (self.documents, self.bytes) = (documents, bytes);
        self.next_seq_no += 1;
        let stored = Stored {
            version,
            seq_no: document.seq_no,
            result: if old_weight.is_none() {
                "created"
            } else {
                "updated"
            },
            status: if old_weight.is_none() { 201 } else { 200 },
        };
        index.tombstones.remove(id);
        index.documents.insert(id.to_owned(), document);
        Ok(stored)
    }

    fn delete(&mut self, operation: &Operation, id: &str) -> Result<Stored, ApiError> {
        // An external version creates the index for its tombstone; a plain delete needs one.
        if operation.version_type == VersionType::Internal
            && !self.indices.contains_key(&operation.index)
        {
            return Err(ApiError::index_not_found(&operation.index));
        }
        let tombstones_max = self.documents_max;
        let index = self.indices.entry(operation.index.clone()).or_default();
        let version = next_version(operation, id, index.current_version(id, self.gc_deletes))?;
        if index.tombstones.len() >= tombstones_max {
            index
                .tombstones
                .retain(|_, (_, deleted_at)| deleted_at.elapsed() < self.gc_deletes);
        }
        if index.tombstones.len() >= tombstones_max {
            return Err(full(&operation.index, tombstones_max, self.bytes_max));
        }
        let removed = index.documents.remove(id);
        index
            .tombstones
            .insert(id.to_owned(), (version, Instant::now()));
        if let Some(document) = &removed {
            self.documents = self.documents.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(weight(document));
        }
        let seq_no = self.next_seq_no;
        self.next_seq_no += 1;
        Ok(Stored {
            version,
            seq_no,
            result: if removed.is_some() {
                "deleted"
            } else {
                "not_found"
            },
            status: if removed.is_some() { 200 } else { 404 },
        })
    }
}

#[derive(serde::Deserialize)]
struct UpdateRequest {
    doc: Value,
    #[serde(default)]
    doc_as_upsert: bool,
}

/// Members of objects are merged, everything else is replaced.
fn merge(target: &mut Value, source: Value) {
    match (target, source) {
        (Value::Object(target), Value::Object(source)) => {
            for (name, value) in source {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (target, source) => *target = source,
    }
}

/// What a document costs of the byte limit: its id and its source.
fn weight(document: &Document) -> usize {
    document.id.len() + document.source.get().len()
}

fn next_version(operation: &Operation, id: &str, current: Option<i64>) -> Result<i64, ApiError> {
    let (Some(version), Some(current)) = (operation.version, current) else {
        return Ok(operation
            .version
            .unwrap_or_else(|| current.unwrap_or(0).saturating_add(1)));
    };
    let (refused, relation) = match operation.version_type {
        VersionType::External | VersionType::Internal => (version <= current, "higher or equal to"),
        VersionType::ExternalGte => (version < current, "higher than"),
    };
    if refused {
        return Err(conflict(format!(
            "[{id}]: version conflict, current version [{current}] is {relation} the one \
             provided [{version}]"
        )));
    }
    Ok(version)
}

fn conflict(reason: String) -> ApiError {
    ApiError::new(409, "version_conflict_engine_exception", reason)
}

/// A full store answers as Elasticsearch does at its flood-stage watermark: it may clear by itself, so it is no
/// document's fault.
fn full(index: &str, documents_max: usize, bytes_max: usize) -> ApiError {
    ApiError::new(
        429,
        "cluster_block_exception",
        format!(
            "index [{index}] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage \
             watermark, index has read-only-allow-delete block]; this store keeps \
             {documents_max} documents and {bytes_max} bytes;"
        ),
    )
}

/// Index names as Elasticsearch takes them.
pub(crate) fn check_index_name(name: &str) -> Result<(), ApiError> {
    let fault = if name.len() > 255 {
        Some("index name is too long, (over 255 bytes)")
    } else if name == "." || name == ".." {
        Some("must not be '.' or '..'")
    } else if name.starts_with(['-', '_', '+']) {
        Some("must not start with '_', '-', or '+'")
    } else if name.chars().any(|c| "\\/*?\"<>| ,#:".contains(c)) {
        Some(
            "must not contain the following characters ['\\','/','*','?','\"','<','>','|',' ',',','#',':']",
        )
    } else if name.chars().any(char::is_uppercase) {
        Some("must be lowercase")
    } else {
        None
    };
    match fault {
        Some(fault) => Err(ApiError::new(
            400,
            "invalid_index_name_exception",
            format!("Invalid index name [{name}], {fault}"),
        )),
        None => Ok(()),
    }
}

fn check_id(id: &str) -> Result<(), ApiError> {
    if id.is_empty() {
        return Err(ApiError::illegal_argument(
            "if _id is specified it must not be empty",
        ));
    }
    Ok(())
}

/// The source must be one JSON object; `@timestamp`, where it stands and is not null, must be a date.
fn parse_source(source: &Bytes) -> Result<(Box<RawValue>, Option<i64>), ApiError> {
    let parsing = |reason: String| ApiError::new(400, "document_parsing_exception", reason);
    let raw: Box<RawValue> = serde_json::from_slice(source)
        .map_err(|error| parsing(format!("[1:{}] failed to parse: {error}", error.column())))?;
    if !raw.get().starts_with('{') {
        return Err(parsing(
            "[1:1] failed to parse: Malformed content, must start with an object".to_owned(),
        ));
    }
    let timestamp: Value = serde_json::from_str::<HashMap<String, &RawValue>>(raw.get())
        .ok()
        .and_then(|fields| serde_json::from_str(fields.get("@timestamp")?.get()).ok())
        .unwrap_or(Value::Null);
    if timestamp.is_null() {
        return Ok((raw, None));
    }
    match timestamp::parse_ms(&timestamp) {
        Some(milliseconds) => Ok((raw, Some(milliseconds))),
        None => Err(parsing(
            "[1:1] failed to parse field [@timestamp] of type [date]".to_owned(),
        )),
    }
}
