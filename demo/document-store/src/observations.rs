//! What the store saw: every bulk request, and how many were under way for one document at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bulk::Operation;

/// One bulk request, recorded when its body had been read and before anything was applied.
#[derive(Debug, Clone)]
pub struct ObservedBulk {
    /// Rises by one per bulk request of this store, from 0.
    pub sequence: u64,
    pub received_at: Instant,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body without its content encoding.
    pub body: Bytes,
    /// Empty if the body is refused as a whole.
    pub operations: Vec<Operation>,
}

impl ObservedBulk {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        Some(value)
    }

    /// Ids in the order of the operations; operations without one are left out.
    pub fn ids(&self) -> Vec<&str> {
        self.operations
            .iter()
            .filter_map(|operation| operation.id.as_deref())
            .collect()
    }
}

/// The record of a store's life. Bounded: the oldest requests make room for new ones and are counted.
pub struct Observations {
    bulks_max: usize,
    bytes_max: usize,
    record: Mutex<Record>,
    changed: Condvar,
}

#[derive(Default)]
struct Record {
    bulks: VecDeque<Arc<ObservedBulk>>,
    /// Of the kept bodies.
    bytes: usize,
    received: u64,
    /// Requests under way per (index, id).
    flights: HashMap<(String, String), usize>,
    /// The most that ever were, for documents that had more than one.
    shared_flights_max: HashMap<(String, String), usize>,
    flights_max: usize,
}

impl Observations {
    pub(crate) fn new(bulks_max: usize, bytes_max: usize) -> Self {
        Self {
            bulks_max,
            bytes_max,
            record: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The recorded bulk requests, oldest first.
    pub fn bulks(&self) -> Vec<Arc<ObservedBulk>> {
        self.record().bulks.iter().cloned().collect()
    }

    /// How many bulk requests came, recorded or not.
    pub fn received(&self) -> u64 {
        self.record().received
    }

    /// The most requests that were under way for one document at once.
    ///
    /// A flight begins when its body has been read and ends with the last byte of its answer or with the close of its
    /// connection. A client that gives up on a request may send the successor before the close arrives: then both count.
    pub fn flights_max(&self) -> usize {
        self.record().flights_max
    }

    /// The same for one document.
    pub fn flights_max_of(&self, index: &str, id: &str) -> usize {
        let record = self.record();
        let key = (index.to_owned(), id.to_owned());
        record.shared_flights_max.get(&key).copied().unwrap_or(1)
    }

    /// Waits until `condition` holds of the recorded requests; false if `deadline` passes first.
    pub fn wait_until(
        &self,
        deadline: Duration,
        condition: impl Fn(&[Arc<ObservedBulk>]) -> bool,
    ) -> bool {
        let record = self.record();
        let waited = self
            .changed
            .wait_timeout_while(record, deadline, |record| {
                !condition(record.bulks.make_contiguous())
            })
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    /// Waits until `count` bulk requests came; false if `deadline` passes first.
    pub fn wait_for_bulks(&self, count: u64, deadline: Duration) -> bool {
        let record = self.record();
        let waited = self
            .changed
            .wait_timeout_while(record, deadline, |record| record.received < count)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    /// Forgets the recorded requests and the flight counts.
    pub fn clear(&self) {
        let mut record = self.record();
        record.bulks.clear();
        record.bytes = 0;
        record.received = 0;
        record.shared_flights_max.clear();
        record.flights_max = 0;
    }

    pub(crate) fn record_bulk(&self, mut bulk: ObservedBulk) {
        let mut record = self.record();
        bulk.sequence = record.received;
        record.received += 1;
        if self.bulks_max > 0 {
            record.bytes += bulk.body.len();
            record.bulks.push_back(Arc::new(bulk));
            record.forget_oldest(self.bulks_max, self.bytes_max);
        }
        self.changed.notify_all();
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn forget_oldest(&mut self, bulks_max: usize, bytes_max: usize) {
        while self.bulks.len() > bulks_max || (self.bytes > bytes_max && self.bulks.len() > 1) {
            let oldest = self.bulks.pop_front();
            self.bytes -= oldest.map_or(0, |bulk| bulk.body.len());
        }
    }
}

/// Counts one request as under way for each of its documents until it is dropped.
pub(crate) struct Flight {
    observations: Arc<Observations>,
    documents: Vec<(String, String)>,
}

impl Flight {
    pub fn begin(observations: &Arc<Observations>, operations: &[Operation]) -> Self {
        let mut documents: Vec<(String, String)> = operations
            .iter()
            .filter_map(|operation| Some((operation.index.clone(), operation.id.clone()?)))
            .collect();
        // Several operations on one document in one request are one flight.
        documents.sort_unstable();
        documents.dedup();
        let mut guard = observations.record();
        let record = &mut *guard;
        for document in &documents {
            let flights = record.flights.entry(document.clone()).or_insert(0);
            *flights += 1;
            record.flights_max = record.flights_max.max(*flights);
            if *flights > 1 {
                let max = record
                    .shared_flights_max
                    .entry(document.clone())
                    .or_insert(0);
                *max = (*max).max(*flights);
            }
        }
        drop(guard);
        Self {
            observations: Arc::clone(observations),
            documents,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut record = self.observations.record();
        for document in &self.documents {
            if let Some(flights) = record.flights.get_mut(document) {
                *flights -= 1;
                if *flights == 0 {
                    record.flights.remove(document);
                }
            }
        }
    }
}
