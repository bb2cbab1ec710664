//! What waits at the entrance of a node.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use weir_plugin_api::host::OwnedBatch;

/// Batches in order; the first may be consumed in part.
#[derive(Default)]
pub struct Input {
    batches: VecDeque<(Rc<OwnedBatch>, Range<usize>)>,
    records: usize,
}

impl Input {
    pub fn push(&mut self, batch: &Rc<OwnedBatch>, range: Range<usize>) {
        if range.start < range.end {
            self.records += range.len();
            self.batches.push_back((Rc::clone(batch), range));
        }
    }

    /// The first batch and what is left of it.
    pub fn front(&self) -> Option<(Rc<OwnedBatch>, Range<usize>)> {
        self.batches.front().cloned()
    }

    /// The first `records` of the front batch are done.
    pub fn consume(&mut self, records: usize) {
        let Some((_, range)) = self.batches.front_mut() else {
            return;
        };
        let records = records.min(range.len());
        range.start += records;
        self.records -= records;
        if range.start >= range.end {
            self.batches.pop_front();
        }
    }

    pub fn len(&self) -> usize {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Drops everything without consuming it.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.records = 0;
    }
}
