//! Which host works on a pipeline whose result needs every partition (I7). All hosts join one consumer group that
//! subscribes to the checkpoint topic alone; who is given its one partition is active, the others stand by.

use std::thread;

use super::limits::IDLE_WAIT;
use super::{TaskContext, TaskError};
use crate::kafka::{ClientError, GroupConsumer, GroupOffsets, KafkaError, NextOffset, Rebalance};
use crate::status::{Role, TaskState};
use crate::topology::Pipeline;

/// The one partition of the checkpoint topic.
const PARTITION: i32 = 0;

/// Name of the election group of a pipeline.
pub fn election_group(pipeline: &str) -> String {
    format!("__weir.{pipeline}.active")
}

/// This host's membership in the election.
pub struct Election {
    consumer: GroupConsumer,
    topic: String,
}

/// Whether this host is to work.
pub enum Elected {
    Active,
    Draining,
}

/// How this host's turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Another host is to have it, once this one has finished.
    Revoked,
    /// Another host may have it already.
    Lost,
}

impl Election {
    /// Joins the election.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn join(context: &TaskContext) -> Result<Self, ClientError> {
        let Pipeline { name, kafka, .. } = context.pipeline.as_ref();
        let mut properties = kafka.consumer.clone();
        if !kafka.is_grouped_by_broker() {
            // A host that joins takes nothing from the active one, which would start anew otherwise.
            properties.insert(
                "partition.assignment.strategy".into(),
                "cooperative-sticky".into(),
            );
        }
        let topic = crate::checkpoint::topic_name(name);
        let instance = context.member_name();
        let topics = [topic.clone()];
        let consumer = GroupConsumer::join(
            &properties,
            &election_group(name),
            instance.as_deref(),
            &topics,
            thread::current(),
        )?;
        Ok(Election { consumer, topic })
    }

    /// Waits, however long, until this host is the active one. Calls `on_standby` when another one is.
    ///
    /// # Errors
    /// The membership is beyond use.
    pub fn win(
        &self,
        context: &TaskContext,
        mut on_standby: impl FnMut(),
    ) -> Result<Elected, TaskError> {
        let mut state = TaskState::Assigning;
        context.status.set(state.clone());
        while !context.signals.is_draining() {
            match self.consumer.poll() {
                Some(Rebalance::Assign(partitions)) if !partitions.is_empty() => {
                    self.consumer.hold(&partitions)?;
                    context.host.set_role(Role::Active);
                    tracing::info!(
                        event = "active",
                        task = context.task,
                        "this host is the active one"
                    );
                    return Ok(Elected::Active);
                }
                Some(Rebalance::Assign(partitions)) => {
                    self.consumer.hold(&partitions)?;
                    context.host.set_role(Role::Standby);
                    state = TaskState::Standby;
                    context.status.set(state.clone());
                    on_standby();
                }
                Some(Rebalance::Revoke(partitions) | Rebalance::Lost(partitions)) => {
                    self.consumer.unassign(&partitions)?;
                }
                None => self.wait(context, &state)?,
            }
        }
        Ok(Elected::Draining)
    }

    /// `state` is the task's while Kafka answers.
    fn wait(&self, context: &TaskContext, state: &TaskState) -> Result<(), TaskError> {
        if let Some(reason) = self.consumer.fatal_error() {
            return Err(TaskError::Restart(format!(
                "kafka.consumer_fatal: {reason}"
            )));
        }
        context.status.set(match self.consumer.unreachable() {
            Some(_) => TaskState::WaitingForKafka,
            None => state.clone(),
        });
        thread::park_timeout(IDLE_WAIT);
        Ok(())
    }

    /// Keeps the membership and tells when it ends. Call it in every turn.
    ///
    /// # Errors
    /// The membership is beyond use.
    pub fn poll(&self) -> Result<Option<Loss>, KafkaError> {
        Ok(match self.consumer.poll() {
            Some(Rebalance::Revoke(_)) => Some(Loss::Revoked),
            Some(Rebalance::Lost(_)) => Some(Loss::Lost),
            // Another host has joined and nothing was moved. Unanswered, it would be the last that librdkafka tells.
            Some(Rebalance::Assign(partitions)) => {
                self.consumer.hold(&partitions)?;
                None
            }
            None => self.consumer.fatal_error().map(|_| Loss::Lost),
        })
    }

    /// Keeps the membership during a wait.
    pub fn serve(&self) {
        self.consumer.serve();
    }

    /// What makes a transaction fail whose host is no longer the active one.
    ///
    /// # Errors
    /// The client cannot say what its membership is.
    pub fn fence(&self) -> Result<GroupOffsets, KafkaError> {
        self.consumer.for_transaction(&[NextOffset {
            partition: (self.topic.clone(), PARTITION),
            offset: 0,
            metadata: String::new(),
        }])
    }
}
