//! Before anything else asks for a topic: the absent outputs are created, the absent sources waited for.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::checkpoint;
use crate::kafka::{TopicAdmin, TopicError, TopicPlan};
use crate::shutdown::Signals;
use crate::status::{TaskState, TaskStatus};
use crate::topology::{CreateTopic, Pipeline, Policy, Scope, SinkKind, Source};

/// How often Kafka, or a topic that is missing, is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

pub enum Prepared {
    Ready {
        /// Partitions of all source topics together.
        source_partitions: usize,
    },
    Draining,
}

/// What an attempt met.
enum Waiting {
    Kafka(String),
    Topic(String),
}

/// Waits as long as it takes.
///
/// # Errors
/// A property that librdkafka refuses, or a topic that the cluster refuses to create, as one line for the user.
pub fn prepare(
    pipeline: &Pipeline,
    signals: &Signals,
    status: &TaskStatus,
) -> Result<Prepared, String> {
    let mut said = None;
    loop {
        match attempt(pipeline)? {
            Ok(source_partitions) => {
                if said.is_some() {
                    tracing::info!(
                        event = "kafka_back",
                        pipeline = pipeline.name,
                        "Kafka has what the pipeline needs"
                    );
                }
                return Ok(Prepared::Ready { source_partitions });
            }
            Err(waiting) => {
                let state = say_once(pipeline, &waiting, &mut said);
                status.set(state);
            }
        }
        if signals.wait(RETRY_INTERVAL) {
            return Ok(Prepared::Draining);
        }
    }
}

fn say_once(pipeline: &Pipeline, waiting: &Waiting, said: &mut Option<String>) -> TaskState {
    let pipeline_name = &pipeline.name;
    let brokers = pipeline
        .kafka
        .consumer
        .get("bootstrap.servers")
        .map_or("", String::as_str);
    let (state, text) = match waiting {
        Waiting::Kafka(reason) => (
            TaskState::WaitingForKafka,
            format!("Kafka at {brokers} does not answer; waiting for it ({reason})"),
        ),
        Waiting::Topic(topic) => (
            TaskState::WaitingForTopic {
                topic: topic.clone(),
            },
            format!("the source topic `{topic}` does not exist on {brokers}; waiting for it"),
        ),
    };
    let kind = state.label().to_owned();
    if said.as_ref() != Some(&kind) {
        tracing::warn!(
            event = "waiting",
            pipeline = pipeline_name,
            state = kind,
            "{text}"
        );
        *said = Some(kind);
    }
    state
}

/// One look at every topic. The outer error is final, the inner one a reason to wait.
fn attempt(pipeline: &Pipeline) -> Result<Result<usize, Waiting>, String> {
    let mut partitions = BTreeMap::new();
    let mut missing = None;
    for source in &pipeline.sources {
        let admin = TopicAdmin::new(&source.kafka.consumer).map_err(|error| error.to_string())?;
        for topic in &source.topics {
            match admin.partitions(topic) {
                Ok(Some(count)) => {
                    partitions.insert((source.name.as_str(), topic.as_str()), count);
                }
                Ok(None) => missing = missing.or(Some(topic.clone())),
                Err(error) => return waiting_or_final(error).map(Err),
            }
        }
    }
    let checkpoints = checkpoint_topic(pipeline);
    let checkpoints = checkpoints.as_ref().map(|topic| {
        let plan = TopicPlan {
            topic,
            partitions: 1,
            replication_factor: None,
            config: &CHECKPOINT_CONFIG,
        };
        (&pipeline.kafka.producer, Some(plan))
    });
    for (properties, plan) in plans(pipeline, &partitions).into_iter().chain(checkpoints) {
        let Some(plan) = plan else { continue };
        let admin = TopicAdmin::new(properties).map_err(|error| error.to_string())?;
        if let Err(error) = create_if_absent(&admin, &plan) {
            return waiting_or_final(error).map(Err);
        }
    }
    Ok(match missing {
        Some(topic) => Err(Waiting::Topic(topic)),
        None => Ok(partitions
            .values()
            .map(|count| usize::try_from(*count).unwrap_or(1))
            .sum()),
    })
}

fn waiting_or_final(error: TopicError) -> Result<Waiting, String> {
    match error {
        TopicError::Unreachable(reason) => Ok(Waiting::Kafka(reason)),
        refused @ TopicError::Refused { .. } => Err(refused.to_string()),
    }
}

fn create_if_absent(admin: &TopicAdmin, plan: &TopicPlan<'_>) -> Result<(), TopicError> {
    if let Some(found) = admin.partitions(plan.topic)? {
        let is_for_checkpoints = std::ptr::eq(plan.config, &*CHECKPOINT_CONFIG);
        if is_for_checkpoints && let Some(cause) = unfit_for_checkpoints(admin, plan, found) {
            let topic = plan.topic.to_owned();
            return Err(TopicError::Refused { topic, cause });
        }
        return Ok(());
    }
    tracing::info!(
        event = "topic_created",
        topic = plan.topic,
        partitions = plan.partitions,
        "creating the topic"
    );
    admin.create(plan)
}

/// I3: why checkpoints would not last in a topic that exists. A part that does not change is written once, and any other
/// policy deletes it in time.
fn unfit_for_checkpoints(
    admin: &TopicAdmin,
    plan: &TopicPlan<'_>,
    partitions: i32,
) -> Option<String> {
    if partitions != plan.partitions {
        return Some(format!(
            "it exists with {partitions} partitions, and checkpoints need one"
        ));
    }
    let policy = admin.cleanup_policy(plan.topic)?;
    (policy != "compact").then(|| {
        format!(
            "it exists with `cleanup.policy={policy}`, and checkpoints need `compact`; set it with `kafka-configs --alter`"
        )
    })
}

static NO_CONFIG: BTreeMap<String, String> = BTreeMap::new();

/// I3: compacted, in small segments that are cleaned early, so that a restore reads little more than what counts. The
/// broker's replication: a checkpoint is worth what the records of the sources are worth.
static CHECKPOINT_CONFIG: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "16777216"),
        ("min.cleanable.dirty.ratio", "0.1"),
        // An hour: a slow pipeline does not fill a segment for days.
        ("segment.ms", "3600000"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    config.into_iter().map(owned).collect()
});

fn checkpoint_topic(pipeline: &Pipeline) -> Option<String> {
    // Hosts of pipeline scope elect the active one by it, with state or without.
    let is_needed = pipeline.is_stateful() || pipeline.scope() == Scope::Pipeline;
    is_needed.then(|| checkpoint::topic_name(&pipeline.name))
}

/// Outputs and dead letters. `None` where the partitions follow a source that does not exist yet.
fn plans<'p>(
    pipeline: &'p Pipeline,
    partitions: &BTreeMap<(&str, &str), i32>,
) -> Vec<(&'p BTreeMap<String, String>, Option<TopicPlan<'p>>)> {
    let of_source = |source: &Source| {
        let counts = source.topics.iter().map(|topic| {
            partitions
                .get(&(source.name.as_str(), topic.as_str()))
                .copied()
        });
        counts
            .collect::<Option<Vec<i32>>>()
            .and_then(|counts| counts.into_iter().max())
    };
    let widest = pipeline
        .sources
        .iter()
        .map(of_source)
        .collect::<Option<Vec<i32>>>();
    let widest = widest.and_then(|counts| counts.into_iter().max());
    let plan = |topic: &'p str, create: Option<&'p CreateTopic>| {
        let wanted = create
            .and_then(|create| create.partitions)
            .and_then(|count| i32::try_from(count).ok());
        wanted.or(widest).map(|partitions| TopicPlan {
            topic,
            partitions,
            replication_factor: create.and_then(|create| create.replication_factor),
            config: create.map_or(&NO_CONFIG, |create| &create.config),
        })
    };
    let mut plans = Vec::new();
    for sink in &pipeline.sinks {
        if let SinkKind::Kafka {
            topic,
            create,
            kafka,
        } = &sink.kind
        {
            plans.push((&kafka.producer, plan(topic, Some(create))));
        }
    }
    if pipeline.on_error.policy == Policy::DeadLetter {
        plans.push((
            &pipeline.kafka.producer,
            plan(&pipeline.on_error.topic, None),
        ));
    }
    plans
}
