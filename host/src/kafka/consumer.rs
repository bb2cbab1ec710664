//! A member of a consumer group whose rebalances wait for the task: the client only notes them, the task finishes
//! and commits before it answers (I6).

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::PartitionQueue;
use super::client::{ClientError, client_config};
use super::transaction::GroupOffsets;

/// Longest wait for the metadata of one topic; asked when an assignment comes, never per record.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a member asks whether a broker answers again, and how long it waits for that: a tenth of its time while
/// nothing else can be done.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
const RECHECK_WAIT: Duration = Duration::from_millis(100);

/// Topic and partition.
pub type Partition = (String, i32);

/// A position to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextOffset {
    pub partition: Partition,
    /// The next offset to read.
    pub offset: i64,
    /// Text that the group keeps with the offset; empty where there is nothing to say.
    pub metadata: String,
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    pub metadata: String,
}

fn offset_list(offsets: &[NextOffset]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for next in offsets {
        let (topic, partition) = &next.partition;
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(next.offset))?;
        if !next.metadata.is_empty() {
            element.set_metadata(&next.metadata);
        }
    }
    Ok(list)
}

/// What the group asks of its member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    /// These are now this member's.
    Assign(Vec<Partition>),
    /// These are to be given up: finish and commit, then answer with [`GroupConsumer::unassign`].
    Revoke(Vec<Partition>),
    /// These are no longer this member's: drop them without a commit.
    Lost(Vec<Partition>),
}

#[derive(Default)]
struct Noted {
    rebalances: VecDeque<Rebalance>,
    commit_failure: Option<String>,
    fatal: Option<String>,
    /// Told to be given up, and not answered yet.
    unanswered: Vec<Partition>,
    /// Nobody is left to answer rebalances.
    is_closing: bool,
    /// The newest reason why no broker answers; cleared by whatever shows that one does.
    unreachable: Option<String>,
}

#[derive(Clone, Default)]
struct GroupContext(Arc<Mutex<Noted>>);

impl GroupContext {
    fn with<R>(&self, f: impl FnOnce(&mut Noted) -> R) -> R {
        // Nothing panics while it holds the lock; a poisoned one would still be whole.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}

fn list_of<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

/// A line of librdkafka's own log.
pub(super) fn log_client_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(event = "kafka_client_log", facility, "{message}");
        }
        // librdkafka logs each failed connection attempt as an error; the host says once that Kafka is away.
        _ => tracing::debug!(event = "kafka_client_log", facility, "{message}"),
    }
}

impl ClientContext for GroupContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(event = "kafka_client_error", client = "consumer", %error, reason);
        self.with(|noted| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => noted.fatal = Some(reason.to_owned()),
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Resolve) => {
                noted.unreachable = Some(reason.to_owned());
            }
            _ => {}
        });
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client_line(level, facility, message);
    }
}

impl ConsumerContext for GroupContext {
    /// Notes the event and answers nothing: librdkafka waits for `assign` or `unassign`.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.with(|noted| noted.is_closing) {
            let answer = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            if let Err(error) = answer {
                tracing::debug!(event = "kafka_consumer_error", %error);
            }
            return;
        }
        let partitions = partitions(list);
        let rebalance = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ if consumer.assignment_lost() => Rebalance::Lost(partitions),
            _ => Rebalance::Revoke(partitions),
        };
        self.with(|noted| {
            if let Rebalance::Revoke(partitions) | Rebalance::Lost(partitions) = &rebalance {
                noted.unanswered.clone_from(partitions);
            }
            noted.rebalances.push_back(rebalance);
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.with(|noted| noted.commit_failure = Some(error.to_string()));
        }
    }
}

pub struct GroupConsumer {
    consumer: Arc<BaseConsumer<GroupContext>>,
    context: GroupContext,
    /// One of those that it is subscribed to.
    topic: Option<String>,
    /// When it was last asked whether a broker answers again.
    asked_at: Cell<Instant>,
}

impl GroupConsumer {
    /// Joins `group` for `topics`. `wake` is unparked when there is something to [`GroupConsumer::poll`].
    ///
    /// # Errors
    /// A property or a topic name that librdkafka refuses.
    pub fn join(
        properties: &BTreeMap<String, String>,
        group: &str,
        instance: Option<&str>,
        topics: &[String],
        wake: Thread,
    ) -> Result<Self, ClientError> {
        let mut consumer = Self::make(properties, group, instance, wake)?;
        consumer.topic = topics.first().cloned();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer
            .consumer
            .subscribe(&names)
            .map_err(|cause| ClientError::new("subscription", cause))?;
        Ok(consumer)
    }

    /// A consumer that reads what it is told to and keeps its offsets under `group` without being a member (I7).
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn without_membership(
        properties: &BTreeMap<String, String>,
        group: &str,
        wake: Thread,
    ) -> Result<Self, ClientError> {
        Self::make(properties, group, None, wake)
    }

    fn make(
        properties: &BTreeMap<String, String>,
        group: &str,
        instance: Option<&str>,
        wake: Thread,
    ) -> Result<Self, ClientError> {
        let mut owned = vec![
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            // I2: a reset is the host's decision, and only where no position exists.
            ("auto.offset.reset", "error"),
        ];
        if let Some(instance) = instance {
            owned.push(("group.instance.id", instance));
        }
        let context = GroupContext::default();
        let mut consumer: BaseConsumer<GroupContext> = client_config(properties, &owned)
            .create_with_context(context.clone())
            .map_err(|cause| ClientError::new("consumer", cause))?;
        consumer.set_nonempty_callback(move || wake.unpark());
        Ok(GroupConsumer {
            consumer: Arc::new(consumer),
            context,
            topic: None,
            asked_at: Cell::new(Instant::now()),
        })
    }

    /// Serves what librdkafka has to tell, without waiting, and answers the next rebalance. Call it at least every few
    /// seconds: it is what keeps the member in its group.
    pub fn poll(&self) -> Option<Rebalance> {
        self.serve();
        self.context.with(|noted| noted.rebalances.pop_front())
    }

    /// Begins to read at the given offsets. Split the queues off first.
    pub fn assign(&self, positions: &[(Partition, i64)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Eager => self.consumer.assign(&list),
            // Without membership as well: what is read already goes on undisturbed.
            _ => self.consumer.incremental_assign(&list),
        }
    }

    /// Takes partitions without reading them: their ownership is all that matters.
    pub fn hold(&self, partitions: &[Partition]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, Offset::End)?;
        }
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Eager => self.consumer.assign(&list)?,
            _ => self.consumer.incremental_assign(&list)?,
        }
        self.consumer.pause(&list)
    }

    /// Answers a revocation or a loss.
    pub fn unassign(&self, partitions: &[Partition]) -> KafkaResult<()> {
        self.context.with(|noted| noted.unanswered.clear());
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Eager => self.consumer.unassign(),
            _ => self.consumer.incremental_unassign(&list_of(partitions)),
        }
    }

    pub fn queue(&self, (topic, partition): &Partition, wake: Thread) -> Option<PartitionQueue> {
        PartitionQueue::split(&self.consumer, topic, *partition, wake)
    }

    /// What the group has committed; `None` for a partition without. Asks the coordinator, which under read_committed
    /// answers only when no transaction with offsets of these partitions is open.
    pub fn committed(
        &self,
        partitions: &[Partition],
        wait: Duration,
    ) -> KafkaResult<BTreeMap<Partition, Option<Committed>>> {
        let answer = self.consumer.committed_offsets(list_of(partitions), wait)?;
        let mut committed = BTreeMap::new();
        for element in answer.elements() {
            element.error()?;
            let found = match element.offset() {
                Offset::Offset(offset) => Some(Committed {
                    offset,
                    metadata: element.metadata().to_owned(),
                }),
                _ => None,
            };
            committed.insert((element.topic().to_owned(), element.partition()), found);
        }
        Ok(committed)
    }

    /// First and last stable offset of a partition. Asks the leader.
    pub fn bounds(
        &self,
        (topic, partition): &Partition,
        wait: Duration,
    ) -> KafkaResult<(i64, i64)> {
        self.consumer.fetch_watermarks(topic, *partition, wait)
    }

    /// Commits; with `wait`, returns when the coordinator has answered.
    pub fn commit(&self, offsets: &[NextOffset], wait: bool) -> KafkaResult<()> {
        let mode = if wait {
            CommitMode::Sync
        } else {
            CommitMode::Async
        };
        self.consumer.commit(&offset_list(offsets)?, mode)
    }

    /// The same offsets for a transaction, under this member's generation (KIP-447): a member that was replaced
    /// commits nothing. A consumer that never joined commits for a group without members.
    pub fn for_transaction(&self, offsets: &[NextOffset]) -> KafkaResult<GroupOffsets> {
        let membership = self.consumer.group_metadata();
        Ok(GroupOffsets {
            offsets: offset_list(offsets)?,
            membership: membership.ok_or(KafkaError::ClientCreation(
                "the consumer has no group".to_owned(),
            ))?,
        })
    }

    /// Goes back, or on, to these offsets in partitions that are being read; what was prefetched is dropped.
    pub fn seek(&self, positions: &[(Partition, i64)], wait: Duration) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        let answer = self.consumer.seek_partitions(list, wait)?;
        answer
            .elements()
            .iter()
            .try_for_each(|element| element.error())
    }

    /// Serves the client without taking the next rebalance: for waits in the middle of something.
    pub fn serve(&self) {
        // Records come through partition queues; what comes here are errors, which the context notes as well.
        while let Some(answer) = self.consumer.poll(Duration::ZERO) {
            match answer {
                Ok(_) => self.context.with(|noted| noted.unreachable = None),
                Err(error) => tracing::debug!(event = "kafka_consumer_error", %error),
            }
        }
    }

    /// Why the newest asynchronous commit failed.
    pub fn take_commit_failure(&self) -> Option<String> {
        self.context.with(|noted| noted.commit_failure.take())
    }

    /// Why this consumer can no longer be used.
    pub fn fatal_error(&self) -> Option<String> {
        self.context.with(|noted| noted.fatal.clone())
    }

    /// Why no broker answers, as far as is known. A member without partitions is sent nothing by which it could tell that
    /// one answers again: it asks, once a second.
    pub fn unreachable(&self) -> Option<String> {
        let reason = self.context.with(|noted| noted.unreachable.clone())?;
        let Some(topic) = &self.topic else {
            return Some(reason);
        };
        if self.asked_at.get().elapsed() < RECHECK_INTERVAL {
            return Some(reason);
        }
        let client = self.consumer.client();
        let answer = client.fetch_metadata(Some(topic), RECHECK_WAIT);
        self.asked_at.set(Instant::now());
        if answer.is_err() {
            return Some(reason);
        }
        self.note_reachable();
        None
    }

    /// Something came from a broker.
    pub fn note_reachable(&self) {
        self.context.with(|noted| noted.unreachable = None);
    }

    /// How many members a group has.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn members(&self, group: &str, wait: Duration) -> KafkaResult<usize> {
        let list = self.consumer.client().fetch_group_list(Some(group), wait)?;
        let found = list.groups().iter().find(|found| found.name() == group);
        Ok(found.map_or(0, |group| group.members().len()))
    }

    /// Number of partitions of a topic; `None` while Kafka does not answer or has no such topic.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        let metadata = self
            .consumer
            .client()
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)
            .ok()?;
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)?;
        i32::try_from(found.partitions().len())
            .ok()
            .filter(|count| *count > 0)
    }
}

impl Drop for GroupConsumer {
    /// From here on the client answers rebalances by itself: closing revokes what is assigned and waits for the answer. It
    /// would wait for ever for the answer to what it has told before, which nobody is left to give.
    fn drop(&mut self) {
        let unanswered = self.context.with(|noted| {
            noted.is_closing = true;
            std::mem::take(&mut noted.unanswered)
        });
        if !unanswered.is_empty()
            && let Err(error) = self.unassign(&unanswered)
        {
            tracing::debug!(event = "kafka_consumer_error", %error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;

    /// Longest wait for the mock cluster and for a close.
    const DEADLINE: Duration = Duration::from_secs(30);

    fn join(servers: &str, strategy: &str) -> GroupConsumer {
        let properties = BTreeMap::from([
            ("bootstrap.servers".to_owned(), servers.to_owned()),
            (
                "partition.assignment.strategy".to_owned(),
                strategy.to_owned(),
            ),
            ("session.timeout.ms".to_owned(), "6000".to_owned()),
        ]);
        let topics = ["t".to_owned()];
        let wake = thread::current();
        GroupConsumer::join(&properties, "g", None, &topics, wake).expect("joins")
    }

    fn next(consumer: &GroupConsumer) -> Option<Rebalance> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let rebalance = consumer.poll();
            if rebalance.is_some() {
                return rebalance;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        None
    }

    /// Closes a member that was told what `tell` waits for and has not answered.
    fn closes_unanswered(strategy: &'static str, tell: fn(&GroupConsumer, &str)) {
        let cluster: MockCluster<'_, DefaultProducerContext> =
            MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("t", 2, 1).expect("a topic");
        let servers = cluster.bootstrap_servers();
        let (closed, is_closed) = mpsc::channel();
        let member = thread::spawn(move || {
            let consumer = join(&servers, strategy);
            tell(&consumer, &servers);
            drop(consumer);
            closed.send(())
        });
        let ended = is_closed.recv_timeout(4 * DEADLINE);
        assert_eq!(ended, Ok(()), "{strategy}: panicked, or does not close");
        assert!(member.join().is_ok());
    }

    fn tell_assignment(consumer: &GroupConsumer, _: &str) {
        assert!(matches!(next(consumer), Some(Rebalance::Assign(_))));
    }

    fn tell_revocation(consumer: &GroupConsumer, servers: &str) {
        let Some(Rebalance::Assign(partitions)) = next(consumer) else {
            panic!("nothing was assigned");
        };
        let positions: Vec<_> = partitions.into_iter().map(|at| (at, 0)).collect();
        consumer.assign(&positions).expect("assigned");
        let _second = join(servers, "range");
        assert!(matches!(next(consumer), Some(Rebalance::Revoke(_))));
    }

    /// The session ends because no broker answers; the brokers are back when the member closes.
    #[test]
    fn a_consumer_closes_with_a_loss_that_nobody_answered() {
        for strategy in ["range", "cooperative-sticky"] {
            let cluster: MockCluster<'_, DefaultProducerContext> =
                MockCluster::new(1).expect("a mock cluster");
            cluster.create_topic("t", 2, 1).expect("a topic");
            let (closed, is_closed) = mpsc::channel();
            let (lost, is_lost) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel::<()>();
            let servers = cluster.bootstrap_servers();
            let member = thread::spawn(move || {
                let consumer = join(&servers, strategy);
                let Some(Rebalance::Assign(partitions)) = next(&consumer) else {
                    panic!("nothing was assigned");
                };
                consumer.hold(&partitions).expect("held");
                lost.send(false).expect("the test waits");
                // Longer than the session, in which every look meets silence.
                let told = next(&consumer);
                lost.send(matches!(told, Some(Rebalance::Lost(_))))
                    .expect("the test waits");
                goes_on.recv().expect("the test goes on");
                drop(consumer);
                closed.send(())
            });
            assert_eq!(is_lost.recv_timeout(DEADLINE), Ok(false), "{strategy}");
            cluster.broker_down(1).expect("down");
            assert_eq!(
                is_lost.recv_timeout(2 * DEADLINE),
                Ok(true),
                "{strategy}: no loss"
            );
            cluster.broker_up(1).expect("up");
            go_on.send(()).expect("the member waits");
            let ended = is_closed.recv_timeout(4 * DEADLINE);
            assert_eq!(ended, Ok(()), "{strategy}: does not close");
            assert!(member.join().is_ok());
        }
    }

    #[test]
    fn a_consumer_closes_with_an_assignment_that_nobody_answered() {
        closes_unanswered("range", tell_assignment);
        closes_unanswered("cooperative-sticky", tell_assignment);
    }

    #[test]
    fn a_consumer_closes_with_a_revocation_that_nobody_answered() {
        closes_unanswered("range", tell_revocation);
    }
}
