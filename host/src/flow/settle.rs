//! Verdicts of sinks, and what may be committed (I1).

use std::time::Duration;

use super::sink::{PluginSink, Verdict};
use super::{Flow, FlowError, Refusal, SettledCounts, Stage, Target, TransformNode, broken, mark};
use crate::metrics::TaskCounters;
use crate::plugin::CallError;

impl Flow {
    /// Takes the verdicts that sinks have ready.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn poll_sinks(&mut self, counters: &mut TaskCounters) -> Result<(), FlowError> {
        self.visit_plugin_sinks(counters, |sink| {
            sink.poll().map(|verdicts| (true, verdicts))
        })
        .map(|_| ())
    }

    fn visit_plugin_sinks(
        &mut self,
        counters: &mut TaskCounters,
        mut visit: impl FnMut(&mut PluginSink) -> Result<(bool, Vec<Verdict>), CallError>,
    ) -> Result<bool, FlowError> {
        let mut all_done = true;
        for index in 0..self.sinks.len() {
            let node = &mut self.sinks[index];
            let Target::Plugin(sink) = &mut node.target else {
                continue;
            };
            self.monitor.begin(self.transforms.len() + index);
            let answer = visit(sink);
            self.monitor.end();
            let (done, verdicts) = answer.map_err(|error| broken(&node.name, &error))?;
            all_done &= done && sink.open() == 0;
            for (class, count) in sink.take_errors() {
                counters[self.sink_counters[index]].add_sink_errors(&class, count);
            }
            let (name, class) = (node.name.clone(), sink.plugin.clone());
            for verdict in verdicts {
                self.take_verdict(&name, &class, verdict)?;
            }
        }
        Ok(all_done)
    }

    fn take_verdict(&mut self, node: &str, class: &str, verdict: Verdict) -> Result<(), FlowError> {
        let seq = match verdict {
            Verdict::Settled(seq) => {
                self.ledger.mark(seq, mark::DELIVERED);
                seq
            }
            Verdict::Rejected(seq, rejection) => {
                let refusal = Refusal {
                    stage: Stage::TaskPut,
                    node: node.to_owned(),
                    class: class.to_owned(),
                    code: rejection.code.into_string(),
                    message: rejection.message.into_string(),
                    detail: rejection.detail.into_string(),
                };
                self.refuse(seq, &refusal)?;
                seq
            }
        };
        self.ledger.done(seq);
        Ok(())
    }

    /// Finishes everything that was given, at most for `wait` a step; true when all of it is settled.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn flush(
        &mut self,
        wait: Duration,
        counters: &mut TaskCounters,
    ) -> Result<bool, FlowError> {
        let sinks_done = self.visit_plugin_sinks(counters, |sink| sink.flush(wait))?;
        let outbox_done = self.flush_outbox(wait)?;
        let waiting = self.sinks.iter().any(|node| !node.input.is_empty());
        Ok(sinks_done && outbox_done && !waiting && self.transforms_are_idle())
    }

    /// I1: for each slot the offset up to which everything derived is durable. `next` holds, by slot, the next offset to
    /// read. Stateless: the contiguous settled prefix. With state that is not checkpointed: an aligned cut of what the
    /// transforms still hold, taken once everything derived before it is settled.
    ///
    /// # Errors
    /// A transform that cannot say what it holds.
    pub fn committable(&mut self, next: &[i64]) -> Result<Vec<i64>, FlowError> {
        let mut offsets = next.to_vec();
        self.ledger.lower_to_unsettled(&mut offsets);
        if !self.transforms.iter().any(TransformNode::is_stateful) {
            return Ok(offsets);
        }
        let (cut, barrier) = match self.cut.take() {
            Some(cut) => cut,
            None => (self.held(offsets.clone())?, self.ledger.next_seq()),
        };
        if self.ledger.has_open_derived_below(barrier) {
            self.cut = Some((cut, barrier));
            // Nothing new may be committed: the offsets below the cut were committed with the cut before.
            return Ok(vec![i64::MIN; next.len()]);
        }
        Ok(offsets
            .iter()
            .zip(cut.iter().chain(std::iter::repeat(&i64::MIN)))
            .map(|(a, b)| *a.min(b))
            .collect())
    }

    fn held(&self, mut offsets: Vec<i64>) -> Result<Vec<i64>, FlowError> {
        for node in self.transforms.iter().filter(|node| node.is_stateful()) {
            for (slot, offset) in (0u32..).zip(offsets.iter_mut()) {
                let held = node
                    .instance
                    .held(slot)
                    .map_err(|error| broken(&node.name, &error))?;
                *offset = held.map_or(*offset, |held| held.min(*offset));
            }
        }
        Ok(offsets)
    }

    /// Adds what was settled since the last call.
    pub fn count_settled(&mut self, counters: &mut TaskCounters) {
        let SettledCounts { source, derived } = self.ledger.take_counts();
        for (outcome, records) in source {
            counters.settle(outcome, records);
        }
        for (transform, outcome, records) in derived {
            counters[self.transform_counters[transform]]
                .derived
                .add(outcome, records);
        }
    }
}
