//! Looks topics up and creates the absent ones.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{ClientError, client_config, is_transport};

/// How long one request to the cluster may take before it counts as unanswered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a topic is not there.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answers: wait and ask again.
    #[error("Kafka does not answer: {0}")]
    Unreachable(String),
    #[error(
        "kafka.topic_create: the topic `{topic}` could not be created: {cause}; create it by hand or correct `create:` of its sink"
    )]
    Refused { topic: String, cause: String },
}

/// A topic to create if it is absent.
pub struct TopicPlan<'a> {
    pub topic: &'a str,
    pub partitions: i32,
    /// `None`: the broker's default.
    pub replication_factor: Option<u16>,
    pub config: &'a BTreeMap<String, String>,
}

pub struct TopicAdmin {
    client: AdminClient<DefaultClientContext>,
}

impl TopicAdmin {
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<Self, ClientError> {
        let client = client_config(properties, &[])
            .create()
            .map_err(|cause| ClientError::new("admin client", cause))?;
        Ok(TopicAdmin { client })
    }

    /// Number of partitions; `None` when the topic does not exist. Never creates it: the question names all topics.
    ///
    /// # Errors
    /// No broker answers.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, TopicError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|error| TopicError::Unreachable(error.to_string()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found
            .filter(|found| found.error().is_none())
            .map(|found| found.partitions().len());
        Ok(partitions
            .and_then(|count| i32::try_from(count).ok())
            .filter(|count| *count > 0))
    }

    /// The topic's `cleanup.policy`; `None` where the cluster does not say.
    pub fn cleanup_policy(&self, topic: &str) -> Option<String> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let topic = ResourceSpecifier::Topic(topic);
        let answers = block_on(self.client.describe_configs([&topic], &options)).ok()?;
        let config = answers.into_iter().next()?.ok()?;
        config.get("cleanup.policy")?.value.clone()
    }

    /// Creates the topic; one that exists meanwhile is as good.
    ///
    /// # Errors
    /// No broker answers, or the cluster refuses.
    pub fn create(&self, plan: &TopicPlan<'_>) -> Result<(), TopicError> {
        let replication = plan.replication_factor.map_or(-1, i32::from);
        let mut topic = NewTopic::new(
            plan.topic,
            plan.partitions,
            TopicReplication::Fixed(replication),
        );
        for (name, value) in plan.config {
            topic = topic.set(name, value);
        }
        let options = AdminOptions::new()
            .operation_timeout(Some(REQUEST_TIMEOUT))
            .request_timeout(Some(REQUEST_TIMEOUT));
        let refused = |cause: String| TopicError::Refused {
            topic: plan.topic.to_owned(),
            cause,
        };
        let answers = block_on(self.client.create_topics([&topic], &options));
        let answers = answers.map_err(|error| match error.rdkafka_error_code() {
            Some(code) if is_transport(code) => TopicError::Unreachable(error.to_string()),
            None if matches!(error, KafkaError::Canceled) => {
                TopicError::Unreachable(error.to_string())
            }
            _ => refused(error.to_string()),
        })?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) if is_transport(code) => {
                    return Err(TopicError::Unreachable(code.to_string()));
                }
                Err((_, code)) => return Err(refused(code.to_string())),
            }
        }
        Ok(())
    }
}

/// Drives one of rdkafka's admin futures, which a thread of the admin client completes.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
