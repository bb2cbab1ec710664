//! Verdicts of sinks, and what may be committed (I1).

use std::time::Duration;

use super::sink::{PluginSink, Verdict};
use super::{Flow, FlowError, Refusal, SettledCounts, Stage, Target, broken, mark};
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
            for (metric, label, value) in sink.take_numbers() {
                counters[self.sink_counters[index]]
                    .sink
                    .take(metric, &label, value);
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

    /// Lets plugin sinks finish what they took, each at most for `wait`; true when all of it is settled.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn flush_sinks(
        &mut self,
        wait: Duration,
        counters: &mut TaskCounters,
    ) -> Result<bool, FlowError> {
        self.visit_plugin_sinks(counters, |sink| sink.flush(wait))
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
        let sinks_done = self.flush_sinks(wait, counters)?;
        let outbox_done = self.flush_outbox(wait)?;
        let waiting = self.sinks.iter().any(|node| !node.input.is_empty());
        Ok(sinks_done && outbox_done && !waiting && self.transforms_are_idle())
    }

    /// I1, for stateless pipelines that may repeat: for each slot the contiguous settled prefix. `next` holds, by slot, the
    /// next offset to read.
    pub fn settled_prefix(&self, next: &[i64]) -> Vec<i64> {
        let mut offsets = next.to_vec();
        self.ledger.lower_to_unsettled(&mut offsets);
        offsets
    }

    /// I1, I4: an aligned cut of all slots, or `None` while there is none. See [`super::Ledger::cut`].
    pub fn cut(&self, next: &[i64]) -> Option<Vec<i64>> {
        let mut offsets = next.to_vec();
        self.ledger.cut(&mut offsets).then_some(offsets)
    }

    /// True when plugin sinks have settled everything and their targets can be written, as far as they know.
    pub fn sinks_accept(&self) -> bool {
        self.sinks.iter().all(|node| match &node.target {
            Target::Plugin(sink) => sink.open() == 0 && sink.unavailable().is_none(),
            Target::Kafka { .. } => true,
        })
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
