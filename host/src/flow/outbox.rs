//! Where records leave for Kafka: sinks of type `kafka` and dead letters.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use weir_plugin_api::Record;

use crate::kafka::{
    ClientError, DeliveryFailure, GroupOffsets, Partition, Producer, TransactionError, Waiting,
};
use crate::topology::{Pipeline, SinkKind};

/// One per task. A completed flush settles everything handed over before it that no failure names.
pub trait Outbox {
    /// Takes records from the front, in order, and answers how many; fewer when it is full.
    fn produce(&mut self, sink: &str, topic: &str, records: &[Record<'_>]) -> usize;

    /// One dead letter with the original's key, value, headers and timestamp; false when full.
    fn dead_letter(&mut self, topic: &str, record: &Record<'_>, headers: &[(&str, &str)]) -> bool;

    /// Waits at most `wait`; true when nothing is on its way any more.
    fn flush(&mut self, wait: Duration) -> bool;

    /// Records that were refused since the last call.
    fn take_failures(&mut self) -> Vec<DeliveryFailure>;

    /// Why nothing can be written any more.
    fn fatal_error(&self) -> Option<String>;
}

/// The producers of a task: the pipeline's own, for dead letters and every sink that changes no property, and one for each
/// other set of properties that a sink asks for (another cluster, another compression).
pub struct Producers {
    own: Producer,
    others: Vec<Other>,
}

struct Other {
    /// Names of the sinks that write through it.
    sinks: Vec<String>,
    producer: Producer,
}

impl Producers {
    /// With a `transactional_id` (I4) everything leaves through the pipeline's own producer, which is transactional; the
    /// topology has made sure that no sink asks for another. What the first source alone sets holds for it as well.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn new(pipeline: &Pipeline, transactional_id: Option<&str>) -> Result<Self, ClientError> {
        let sinks = pipeline.sinks.iter().filter_map(|sink| match &sink.kind {
            SinkKind::Kafka { kafka, .. } => Some((sink.name.as_str(), &kafka.producer)),
            SinkKind::Plugin { .. } => None,
        });
        let sinks = sinks.filter(|_| transactional_id.is_none());
        let others = by_properties(&pipeline.kafka.producer, sinks).into_iter();
        let others = others.map(|(properties, sinks)| {
            Ok(Other {
                sinks,
                producer: Producer::new(properties)?,
            })
        });
        let own = &pipeline.kafka.producer;
        Ok(Producers {
            own: match transactional_id {
                Some(id) => Producer::transactional(own, id)?,
                None => Producer::new(own)?,
            },
            others: others.collect::<Result<_, ClientError>>()?,
        })
    }

    /// See [`Producer::init_transactions`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn init_transactions(&self, waiting: Waiting<'_>) -> Result<(), TransactionError> {
        self.own.init_transactions(waiting)
    }

    /// When the open transaction began; `None` too where there are none.
    pub fn transaction_open_since(&self) -> Option<Instant> {
        self.own.transaction_open_since()
    }

    /// See [`Producer::commit`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn commit(
        &mut self,
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        self.own.commit(groups, waiting)
    }

    /// See [`Producer::abort`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn abort(&mut self, waiting: Waiting<'_>) -> Result<(), TransactionError> {
        self.own.abort(waiting)
    }

    /// See [`Producer::abort_leftovers`].
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn abort_leftovers(
        &mut self,
        partitions: &[Partition],
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        self.own.abort_leftovers(partitions, groups, waiting)
    }

    /// Writes a record of the checkpoint topic; false when the client's queue is full.
    pub fn produce_checkpoint(&mut self, topic: &str, record: &Record<'_>) -> bool {
        self.own.produce_one(topic, record, &[])
    }

    fn of(&mut self, sink: &str) -> &mut Producer {
        let other = self
            .others
            .iter_mut()
            .find(|other| other.sinks.iter().any(|name| name == sink));
        other.map_or(&mut self.own, |other| &mut other.producer)
    }

    fn all(&self) -> impl Iterator<Item = &Producer> {
        std::iter::once(&self.own).chain(self.others.iter().map(|other| &other.producer))
    }
}

type Properties = BTreeMap<String, String>;

/// The sets of properties that differ from `own`, each with its sinks.
fn by_properties<'p>(
    own: &Properties,
    sinks: impl Iterator<Item = (&'p str, &'p Properties)>,
) -> Vec<(&'p Properties, Vec<String>)> {
    let mut sets: Vec<(&Properties, Vec<String>)> = Vec::new();
    for (sink, properties) in sinks.filter(|(_, properties)| *properties != own) {
        match sets.iter_mut().find(|(known, _)| *known == properties) {
            Some((_, sinks)) => sinks.push(sink.to_owned()),
            None => sets.push((properties, vec![sink.to_owned()])),
        }
    }
    sets
}

/// The flow writes records through it, the task ends transactions with it; both live on one thread.
pub type SharedProducers = Rc<RefCell<Producers>>;

impl Outbox for SharedProducers {
    fn produce(&mut self, sink: &str, topic: &str, records: &[Record<'_>]) -> usize {
        let mut producers = self.borrow_mut();
        let producer = producers.of(sink);
        let handled = producer.produce(topic, records);
        producer.poll();
        handled
    }

    fn dead_letter(&mut self, topic: &str, record: &Record<'_>, headers: &[(&str, &str)]) -> bool {
        self.borrow_mut().own.produce_one(topic, record, headers)
    }

    fn flush(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let left = || deadline.saturating_duration_since(Instant::now());
        // Each has its turn, also when the one before has used up the time.
        let producers = self.borrow();
        let pending = producers.all().filter(|producer| !producer.flush(left()));
        pending.count() == 0
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        let producers = self.borrow();
        producers.all().flat_map(Producer::take_failures).collect()
    }

    fn fatal_error(&self) -> Option<String> {
        self.borrow().all().find_map(Producer::fatal_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_share_a_producer_only_where_all_properties_are_equal() {
        let properties = |servers: &str| {
            Properties::from([("bootstrap.servers".to_owned(), servers.to_owned())])
        };
        let (own, far, same) = (properties("a"), properties("b"), properties("a"));
        let sinks = [("near", &same), ("far", &far), ("also_far", &far)];
        let sets = by_properties(&own, sinks.into_iter());
        let names = vec!["far".to_owned(), "also_far".to_owned()];
        assert_eq!(sets, [(&far, names)]);
    }
}
