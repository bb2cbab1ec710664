//! From the topology's properties to librdkafka clients.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// A client could not be made: a property has a value that librdkafka refuses.
#[derive(Debug, thiserror::Error)]
#[error("{code}: the {what} could not be made: {cause}; correct the property under `kafka:`", code = ClientError::CODE)]
pub struct ClientError {
    what: &'static str,
    cause: KafkaError,
}

impl ClientError {
    /// Stable code of this error.
    pub const CODE: &'static str = "kafka.client";

    pub(super) fn new(what: &'static str, cause: KafkaError) -> Self {
        ClientError { what, cause }
    }
}

/// The user's properties, then those that belong to the host.
pub fn client_config(
    properties: &BTreeMap<String, String>,
    owned: &[(&str, &str)],
) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    for (name, value) in owned {
        config.set(*name, *value);
    }
    config
}

/// True for errors that mean "no broker answers now": wait, never give up.
pub fn is_transport(code: rdkafka::error::RDKafkaErrorCode) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::WaitingForCoordinator
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::TimedOutQueue
            | Code::MessageTimedOut
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
    )
}

/// True for a permission that is missing: whoever asks again is refused again.
pub fn is_not_allowed(code: rdkafka::error::RDKafkaErrorCode) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed
    )
}
