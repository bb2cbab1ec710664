//! Event time, timers, and the life of instances whose state depends on them.

use std::time::Instant;

use weir_plugin_api::host::{Arena, CallScope, collect_from};
use weir_plugin_api::{Batch, Output, SLOT_ALL};

use super::{Flow, FlowError, TransformNode, broken, stop_transform};
use crate::metrics::TaskCounters;
use crate::plugin::{CallError, TransformInstance};
use crate::topology::Scope;

impl Flow {
    /// Tells transforms that event time has passed; each sees its watermark rise only.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn pass_watermark(
        &mut self,
        slot: u32,
        at_ms: i64,
        counters: &mut TaskCounters,
    ) -> Result<(), FlowError> {
        for index in 0..self.transforms.len() {
            let node = &mut self.transforms[index];
            let wanted = node.timers && ((node.scope == Scope::Pipeline) == (slot == SLOT_ALL));
            if !wanted
                || node
                    .watermarks
                    .get(&slot)
                    .is_some_and(|given| at_ms <= *given)
            {
                continue;
            }
            node.watermarks.insert(slot, at_ms);
            self.call_for_time(index, counters, |instance, batch, out| {
                instance.on_watermark(batch, slot, at_ms, out)
            })?;
        }
        Ok(())
    }

    /// Calls the timers that are due.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn fire_timers(&mut self, counters: &mut TaskCounters) -> Result<(), FlowError> {
        if self.timers.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let due: Vec<(usize, u32, u64)> = self
            .timers
            .iter()
            .filter(|(_, at_ms)| **at_ms <= now_ms)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            let (index, slot, id) = timer;
            self.call_for_time(index, counters, |instance, batch, out| {
                instance.on_timer(batch, slot, id, now_ms, out)
            })?;
        }
        Ok(())
    }

    fn call_for_time(
        &mut self,
        index: usize,
        counters: &mut TaskCounters,
        call: impl for<'b> FnOnce(
            &mut TransformInstance,
            &Batch<'b>,
            &mut Output<'b>,
        ) -> Result<(), CallError>,
    ) -> Result<(), FlowError> {
        let began = Instant::now();
        let scope = CallScope {
            slots: self.slots.names(),
            now_ms: self.clock.now_ms(),
            yield_flag: self.monitor.yield_flag(),
        };
        let instance = &mut self.transforms[index].instance;
        self.monitor.begin(index);
        let (answer, collected) = collect_from(None, scope, Arena::default(), |batch, out| {
            call(instance, batch, out)
        });
        self.monitor.end();
        counters[self.transform_counters[index]]
            .call_durations
            .observe(began.elapsed());
        answer.map_err(|error| broken(&self.transforms[index].name, &error))?;
        self.take_outputs(index, collected)
    }

    /// When the next timer is due, unix milliseconds.
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.timers.values().min().copied()
    }

    /// The slot is no longer this task's; everything of it is settled.
    pub fn release(&mut self, slot: u32) -> Result<(), FlowError> {
        self.timers.retain(|(_, of, _), _| *of != slot);
        for node in self.transforms.iter_mut().filter(|node| node.is_stateful()) {
            node.watermarks.remove(&slot);
            node.instance
                .release(slot)
                .map_err(|error| broken(&node.name, &error))?;
        }
        Ok(())
    }

    /// Makes the transforms anew whose state spans partitions; nothing of it is left, every slot is released. Event
    /// time never falls inside an instance, and partitions that come back are read from before its watermark.
    ///
    /// # Errors
    /// A plugin that cannot make its instance.
    pub fn renew(&mut self) -> Result<(), FlowError> {
        let spans = |node: &TransformNode| node.scope == Scope::Pipeline;
        self.timers
            .retain(|(index, ..), _| !spans(&self.transforms[*index]));
        for node in self.transforms.iter_mut().filter(|node| spans(node)) {
            let fresh = (node.factory)().map_err(|error| broken(&node.name, &error))?;
            node.watermarks.clear();
            stop_transform(&node.name, std::mem::replace(&mut node.instance, fresh));
        }
        Ok(())
    }
}
