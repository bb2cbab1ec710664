//! `on_error`: retries, panics, and what becomes of a refused record.

use std::time::{Duration, Instant};

use weir_plugin_api::host::OwnedBatch;
use weir_plugin_api::{Failure, Record};

use super::refusal::{headers, shown_key};
use super::transform::UNEXPLAINED_PANICS_MAX;
use super::{Flow, FlowError, Origin, Poison, Refusal, Stage, TransformNode, broken, mark};
use crate::plugin::CallError;
use crate::topology::Policy;

/// Wait between two tries to put a dead letter into a full producer queue.
const DEAD_LETTER_RETRY_WAIT: Duration = Duration::from_millis(50);

impl Flow {
    pub(super) fn transform_refusal(&self, index: usize, failure: &Failure) -> Refusal {
        Refusal {
            stage: Stage::Transformation,
            node: self.transforms[index].name.clone(),
            class: self.transforms[index].plugin.clone(),
            code: failure.code.to_string(),
            message: failure.message.to_string(),
            detail: failure.detail.to_string(),
        }
    }

    /// Waits and tries again, or, past `retry_timeout`, gives the record at the front to `on_error`.
    pub(super) fn retry_or_refuse(
        &mut self,
        index: usize,
        input: &OwnedBatch,
        at: usize,
        error: &CallError,
    ) -> Result<(), FlowError> {
        let node = &mut self.transforms[index];
        let failing_for = node.retry_later(error, Instant::now());
        if self
            .on_error
            .retry_timeout
            .is_none_or(|limit| failing_for < limit)
        {
            tracing::warn!(event = "transform_retries", node = node.name, reason = %error.message);
            return Ok(());
        }
        node.retry = None;
        let Some(seq) = input.records().get(at).map(|record| record.seq) else {
            return Ok(());
        };
        let refusal = Refusal {
            stage: Stage::Transformation,
            node: node.name.clone(),
            class: node.plugin.clone(),
            code: "transform.retry_timeout".into(),
            message: format!(
                "still failing after on_error.retry_timeout: {}",
                error.message
            ),
            detail: String::new(),
        };
        node.input.consume(1);
        self.refuse(seq, &refusal)?;
        self.ledger.done(seq);
        Ok(())
    }

    /// Drops the instance. A stateless one is made anew and its records are given one at a time, until the one that
    /// panics alone is refused. A stateful one has lost its state: the task goes back.
    pub(super) fn recover_from_panic(
        &mut self,
        index: usize,
        input: &OwnedBatch,
        given: usize,
        at: usize,
        error: &CallError,
    ) -> Result<(), FlowError> {
        let node = &mut self.transforms[index];
        let message = error.message.clone();
        tracing::error!(
            event = "plugin_panicked",
            node = node.name,
            plugin = node.plugin,
            message
        );
        let Some(first) = input.records().get(at) else {
            return Ok(());
        };
        if node.is_stateful() {
            let key = (given == 1).then(|| self.slots.key(first.slot)).flatten();
            return Err(match key {
                Some(key) => FlowError::Poisoned {
                    poison: Poison::Record {
                        node: Some(node.name.clone()),
                        topic: key.topic.clone(),
                        partition: key.partition,
                        offset: first.offset,
                    },
                    refusal: Box::new(panic_refusal(node, &message)),
                },
                None => FlowError::Isolate {
                    code: "plugin.panic".into(),
                    message,
                },
            });
        }
        node.instance = (node.factory)().map_err(|error| broken(&node.name, &error))?;
        node.retry = None;
        if given == 1 {
            let (seq, refusal) = (first.seq, panic_refusal(node, &message));
            node.input.consume(1);
            node.unexplained_panics = 0;
            self.refuse(seq, &refusal)?;
            self.ledger.done(seq);
            return Ok(());
        }
        node.unexplained_panics += 1;
        if node.unexplained_panics >= UNEXPLAINED_PANICS_MAX {
            return Err(broken(&node.name, error));
        }
        let last = input
            .records()
            .get(at + given - 1)
            .map_or(first.seq, |record| record.seq);
        node.isolate_below = node.isolate_below.max(last + 1);
        Ok(())
    }

    /// Applies `on_error` to a record. Under `fail` its entry stays open, so that nothing at or after it is committed.
    pub(super) fn refuse(&mut self, seq: u64, refusal: &Refusal) -> Result<(), FlowError> {
        let Some(known) = self.ledger.get(seq) else {
            return Ok(());
        };
        let batch = known.batch.clone();
        let record = batch
            .as_ref()
            .and_then(|batch| batch.records().get(known.position));
        let origin = match (known.maker.transform(), self.slots.key(known.slot)) {
            (None, Some(key)) => Origin::Source {
                topic: key.topic.clone(),
                partition: key.partition,
                offset: known.offset,
            },
            (made_by, _) => Origin::Derived {
                node: made_by
                    .and_then(|index| self.transforms.get(index))
                    .map(|node| node.name.clone())
                    .unwrap_or_default(),
                key: record.map(shown_key).unwrap_or_default(),
            },
        };
        match self.on_error.policy {
            Policy::Fail => Err(FlowError::Refused {
                code: refusal.code.clone(),
                origin,
                node: refusal.node.clone(),
                message: refusal.message.clone(),
            }),
            Policy::Skip => {
                tracing::debug!(event = "record_skipped", node = refusal.node, code = refusal.code, %origin, message = refusal.message);
                self.ledger.mark(seq, mark::SKIPPED);
                Ok(())
            }
            Policy::DeadLetter => match record {
                Some(record) => self.dead_letter(seq, record, &origin, refusal),
                None => Err(FlowError::Isolate {
                    code: refusal.code.clone(),
                    message: refusal.message.clone(),
                }),
            },
        }
    }

    /// I2: the record stays pending until the dead letter is acknowledged.
    fn dead_letter(
        &mut self,
        seq: u64,
        record: &Record<'_>,
        origin: &Origin,
        refusal: &Refusal,
    ) -> Result<(), FlowError> {
        let headers = headers(&self.pipeline, self.task, origin, refusal);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let record = Record { seq, ..*record };
        while !self
            .outbox
            .dead_letter(&self.on_error.topic, &record, &headers)
        {
            // The producer's queue is full: Kafka is away or slow. Waiting here holds back this task alone.
            self.outbox.flush(DEAD_LETTER_RETRY_WAIT);
            self.check_outbox()?;
        }
        tracing::debug!(event = "record_dead_lettered", node = refusal.node, code = refusal.code, %origin, message = refusal.message);
        self.ledger.add(seq, 1);
        self.ledger.mark(seq, mark::DEAD_LETTERED);
        self.ledger.release_bytes(seq);
        self.unflushed_dead_letters.push(seq);
        Ok(())
    }
}

pub(super) fn panic_refusal(node: &TransformNode, message: &str) -> Refusal {
    Refusal {
        stage: Stage::Transformation,
        node: node.name.clone(),
        class: node.plugin.clone(),
        code: "plugin.panic".into(),
        message: format!("the plugin panicked at this record: {message}"),
        detail: String::new(),
    }
}
