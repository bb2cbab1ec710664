//! A bulk request from its parsed operations to its answer, along the script.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::answer::{self, Answer, AnswerBody};
use crate::bulk::Operation;
use crate::error::ApiError;
use crate::faults::{BulkFault, ItemsChange};
use crate::server::Shared;
use crate::storage::{Applied, Stored};

/// The parameters of the URL that have an effect.
pub(crate) struct Parameters {
    pub filter_path: Option<String>,
    pub require_alias: bool,
}

/// What the client gets.
pub(crate) enum Outcome {
    Answer(Box<Answer>),
    Reset,
    /// The connection stays open and silent.
    Silence,
}

/// Runs to its end even if the client goes away meanwhile, as a request inside a real server does.
pub(crate) async fn serve(
    shared: &Shared,
    fault: BulkFault,
    operations: Result<Vec<Operation>, ApiError>,
    parameters: Parameters,
) -> Outcome {
    match &fault {
        BulkFault::Status {
            status,
            headers,
            body,
        } => {
            let body = AnswerBody::whole(Bytes::from(body.clone()));
            return Outcome::Answer(Box::new(answer::with_headers(*status, headers, body)));
        }
        BulkFault::ResetBeforeApply => return Outcome::Reset,
        BulkFault::BlackHole => return Outcome::Silence,
        BulkFault::Latency { before_apply, .. } => tokio::time::sleep(*before_apply).await,
        BulkFault::HoldBeforeApply(gate) => gate.passed().await,
        _ => {}
    }
    let (status, mut body) = match operations
        .and_then(|operations| apply(shared, &operations, parameters.require_alias))
    {
        Ok(body) => (200, body),
        Err(error) => (error.status, error.body()),
    };
    if let BulkFault::Items(change) = &fault {
        change_items(&mut body, *change);
    }
    if let Some(paths) = parameters.filter_path.filter(|_| status == 200) {
        body = answer::filter_path(body, &paths);
    }
    answer_bulk(fault, status, Bytes::from(body.to_string())).await
}

async fn answer_bulk(fault: BulkFault, status: u16, bytes: Bytes) -> Outcome {
    let body = match fault {
        BulkFault::ResetAfterApply => return Outcome::Reset,
        BulkFault::BlackHoleAfterApply => return Outcome::Silence,
        BulkFault::Latency { before_answer, .. } => {
            tokio::time::sleep(before_answer).await;
            AnswerBody::whole(bytes)
        }
        BulkFault::HoldBeforeAnswer(gate) => {
            gate.passed().await;
            AnswerBody::whole(bytes)
        }
        BulkFault::TruncatedBody { keep_bytes } => AnswerBody::cut(bytes, keep_bytes),
        BulkFault::TruncatedJson { keep_bytes } => {
            AnswerBody::whole(bytes.slice(..keep_bytes.min(bytes.len())))
        }
        BulkFault::SlowBody { piece_bytes, pause } => AnswerBody::slow(bytes, piece_bytes, pause),
        _ => AnswerBody::whole(bytes),
    };
    Outcome::Answer(Box::new(answer::with_headers(status, &[], body)))
}

/// Applies the operations in order; each is stored or refused by itself.
fn apply(
    shared: &Shared,
    operations: &[Operation],
    require_alias: bool,
) -> Result<Value, ApiError> {
    let started_at = Instant::now();
    let scripted = shared.faults.judge(operations)?;
    let mut storage = shared.storage();
    let mut errors = false;
    let items: Vec<Value> = operations
        .iter()
        .zip(scripted)
        .map(|(operation, error)| {
            let applied = match error {
                Some(error) => Applied {
                    id: operation.id.clone().unwrap_or_default(),
                    outcome: Err(error),
                },
                None => storage.apply(operation, require_alias),
            };
            errors |= applied.outcome.is_err();
            item(operation, &applied)
        })
        .collect();
    drop(storage);
    shared.stored.notify_all();
    let took = u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(json!({"errors": errors, "took": took, "items": items}))
}

fn item(operation: &Operation, applied: &Applied) -> Value {
    let mut body = Map::new();
    body.insert("_index".to_owned(), operation.index.clone().into());
    body.insert("_id".to_owned(), applied.id.clone().into());
    match &applied.outcome {
        Ok(stored) => stored_fields(&mut body, stored),
        Err(error) => {
            body.insert("status".to_owned(), error.status.into());
            body.insert("error".to_owned(), item_error(operation, error));
        }
    }
    json!({operation.action.name(): body})
}

fn stored_fields(body: &mut Map<String, Value>, stored: &Stored) {
    body.insert("_version".to_owned(), stored.version.into());
    body.insert("result".to_owned(), stored.result.into());
    body.insert(
        "_shards".to_owned(),
        json!({"total": 2, "successful": 1, "failed": 0}),
    );
    body.insert("_seq_no".to_owned(), stored.seq_no.into());
    body.insert("_primary_term".to_owned(), 1.into());
    body.insert("status".to_owned(), stored.status.into());
}

fn item_error(operation: &Operation, error: &ApiError) -> Value {
    let mut body = json!({"type": error.error_type, "reason": error.reason});
    if error.error_type == "version_conflict_engine_exception"
        && let Some(fields) = body.as_object_mut()
    {
        fields.insert("index".to_owned(), operation.index.clone().into());
        fields.insert("shard".to_owned(), "0".into());
    }
    body
}

fn change_items(body: &mut Value, change: ItemsChange) {
    if let ItemsChange::ErrorsFlag(flag) = change {
        if let Some(errors) = body.get_mut("errors") {
            *errors = flag.into();
        }
        return;
    }
    let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) else {
        return;
    };
    match change {
        ItemsChange::Fewer(count) => items.truncate(items.len().saturating_sub(count)),
        ItemsChange::More(count) => {
            let last = items.last().cloned();
            items.extend(last.into_iter().cycle().take(count));
        }
        ItemsChange::Reversed => items.reverse(),
        ItemsChange::ForeignIds(suffix) => items
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .flat_map(Map::values_mut)
            .for_each(|item| append_to_id(item, suffix)),
        ItemsChange::ForeignAction(action) => {
            for item in items.iter_mut() {
                rename_action(item, action);
            }
        }
        ItemsChange::FailureStore(word) => items
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .flat_map(Map::values_mut)
            .filter_map(Value::as_object_mut)
            .for_each(|item| {
                item.insert("failure_store".to_owned(), word.into());
            }),
        ItemsChange::ErrorsFlag(_) => {}
    }
}

fn append_to_id(item: &mut Value, suffix: &str) {
    if let Some(Value::String(id)) = item.get_mut("_id") {
        id.push_str(suffix);
    }
}

fn rename_action(item: &mut Value, action: &str) {
    let renamed: Map<String, Value> = item
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, body)| (action.to_owned(), body.clone()))
        .collect();
    *item = Value::Object(renamed);
}
