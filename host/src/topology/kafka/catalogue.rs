//! The catalogue of librdkafka's configuration properties: which clients know one, what it takes,
//! and whether it is a secret.
//!
//! Source: CONFIGURATION.md of librdkafka 2.12.1, which rdkafka-sys 4.10.0 builds. Properties that
//! only take a function pointer are left out, because a file cannot set them.

use Kind::{Acks, Boolean, Float, Integer, Secret, Text, Words};

/// The clients that know a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Consumers only.
    Consumer,
    /// Producers only.
    Producer,
    /// Every client.
    Both,
}

/// What a property takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Any text, never printed.
    Secret,
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds, both included.
    Integer(i64, i64),
    /// A number within bounds, both included.
    Float(i64, i64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// `all`, or a number of replicas with -1 for all.
    Acks,
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// The name; for a property of two names the one that Kafka's Java clients use.
    pub name: &'static str,
    /// The clients that know it.
    pub side: Side,
    /// What it takes.
    pub kind: Kind,
}

/// The property of this name or alias.
pub fn find(name: &str) -> Option<&'static Property> {
    let name = canonical(name);
    PROPERTIES.iter().find(|property| property.name == name)
}

/// The name under which a property is kept: of two names for one thing, the Java clients' one.
pub fn canonical(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, canonical)| canonical)
}

/// Whether the value of a property must not be printed.
pub fn is_secret(name: &str) -> bool {
    find(name).is_some_and(|property| property.kind == Secret)
}

const fn both(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        side: Side::Both,
        kind,
    }
}

const fn consumer(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        side: Side::Consumer,
        kind,
    }
}

const fn producer(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        side: Side::Producer,
        kind,
    }
}

/// Second names. Setting both names of a property in two layers would otherwise leave it to
/// librdkafka's order of calls which of them wins.
pub const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight.requests.per.connection", "max.in.flight"),
    ("sasl.mechanisms", "sasl.mechanism"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

/// Every property, in librdkafka's order, global before topic.
// One property a line, so that the table can be read beside librdkafka's.
#[rustfmt::skip]
pub const PROPERTIES: &[Property] = &[
    both("builtin.features", Text),
    both("client.id", Text),
    both("bootstrap.servers", Text),
    both("message.max.bytes", Integer(1000, 1000000000)),
    both("message.copy.max.bytes", Integer(0, 1000000000)),
    both("receive.message.max.bytes", Integer(1000, 2147483647)),
    both("max.in.flight", Integer(1, 1000000)),
    both("metadata.recovery.strategy", Words(&["none", "rebootstrap"])),
    both("metadata.recovery.rebootstrap.trigger.ms", Integer(0, 2147483647)),
    both("topic.metadata.refresh.interval.ms", Integer(-1, 3600000)),
    both("metadata.max.age.ms", Integer(1, 86400000)),
    both("topic.metadata.refresh.fast.interval.ms", Integer(1, 60000)),
    both("topic.metadata.refresh.fast.cnt", Integer(0, 1000)),
    both("topic.metadata.refresh.sparse", Boolean),
    both("topic.metadata.propagation.max.ms", Integer(0, 3600000)),
    both("topic.blacklist", Text),
    both("debug", Text),
    both("socket.timeout.ms", Integer(10, 300000)),
    both("socket.blocking.max.ms", Integer(1, 60000)),
    both("socket.send.buffer.bytes", Integer(0, 100000000)),
    both("socket.receive.buffer.bytes", Integer(0, 100000000)),
    both("socket.keepalive.enable", Boolean),
    both("socket.nagle.disable", Boolean),
    both("socket.max.fails", Integer(0, 1000000)),
    both("broker.address.ttl", Integer(0, 86400000)),
    both("broker.address.family", Words(&["any", "v4", "v6"])),
    both("socket.connection.setup.timeout.ms", Integer(1000, 2147483647)),
    both("connections.max.idle.ms", Integer(0, 2147483647)),
    both("reconnect.backoff.jitter.ms", Integer(0, 3600000)),
    both("reconnect.backoff.ms", Integer(0, 3600000)),
    both("reconnect.backoff.max.ms", Integer(0, 3600000)),
    both("statistics.interval.ms", Integer(0, 86400000)),
    both("enabled_events", Integer(0, 2147483647)),
    both("log_level", Integer(0, 7)),
    both("log.queue", Boolean),
    both("log.thread.name", Boolean),
    both("enable.random.seed", Boolean),
    both("log.connection.close", Boolean),
    both("internal.termination.signal", Integer(0, 128)),
    both("api.version.request", Boolean),
    both("api.version.request.timeout.ms", Integer(1, 300000)),
    both("api.version.fallback.ms", Integer(0, 604800000)),
    both("broker.version.fallback", Text),
    both("allow.auto.create.topics", Boolean),
    both("security.protocol", Words(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])),
    both("ssl.cipher.suites", Text),
    both("ssl.curves.list", Text),
    both("ssl.sigalgs.list", Text),
    both("ssl.key.location", Text),
    both("ssl.key.password", Secret),
    both("ssl.key.pem", Secret),
    both("ssl.certificate.location", Text),
    both("ssl.certificate.pem", Text),
    both("ssl.ca.location", Text),
    both("https.ca.location", Text),
    both("https.ca.pem", Text),
    both("ssl.ca.pem", Text),
    both("ssl.ca.certificate.stores", Text),
    both("ssl.crl.location", Text),
    both("ssl.keystore.location", Text),
    both("ssl.keystore.password", Secret),
    both("ssl.providers", Text),
    both("ssl.engine.location", Text),
    both("ssl.engine.id", Text),
    both("enable.ssl.certificate.verification", Boolean),
    both("ssl.endpoint.identification.algorithm", Words(&["none", "https"])),
    both("sasl.mechanism", Text),
    both("sasl.kerberos.service.name", Text),
    both("sasl.kerberos.principal", Text),
    both("sasl.kerberos.kinit.cmd", Text),
    both("sasl.kerberos.keytab", Text),
    both("sasl.kerberos.min.time.before.relogin", Integer(0, 86400000)),
    both("sasl.username", Text),
    both("sasl.password", Secret),
    both("sasl.oauthbearer.config", Secret),
    both("enable.sasl.oauthbearer.unsecure.jwt", Boolean),
    both("sasl.oauthbearer.method", Words(&["default", "oidc"])),
    both("sasl.oauthbearer.client.id", Text),
    both("sasl.oauthbearer.client.secret", Secret),
    both("sasl.oauthbearer.scope", Text),
    both("sasl.oauthbearer.extensions", Text),
    both("sasl.oauthbearer.token.endpoint.url", Text),
    both("sasl.oauthbearer.grant.type", Words(&["client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"])),
    both("sasl.oauthbearer.assertion.algorithm", Words(&["RS256", "ES256"])),
    both("sasl.oauthbearer.assertion.private.key.file", Text),
    both("sasl.oauthbearer.assertion.private.key.passphrase", Secret),
    both("sasl.oauthbearer.assertion.private.key.pem", Secret),
    both("sasl.oauthbearer.assertion.file", Text),
    both("sasl.oauthbearer.assertion.claim.aud", Text),
    both("sasl.oauthbearer.assertion.claim.exp.seconds", Integer(1, 2147483647)),
    both("sasl.oauthbearer.assertion.claim.iss", Text),
    both("sasl.oauthbearer.assertion.claim.jti.include", Boolean),
    both("sasl.oauthbearer.assertion.claim.nbf.seconds", Integer(0, 2147483647)),
    both("sasl.oauthbearer.assertion.claim.sub", Text),
    both("sasl.oauthbearer.assertion.jwt.template.file", Text),
    both("sasl.oauthbearer.metadata.authentication.type", Words(&["none", "azure_imds"])),
    both("plugin.library.paths", Text),
    consumer("group.id", Text),
    consumer("group.instance.id", Text),
    consumer("partition.assignment.strategy", Text),
    consumer("session.timeout.ms", Integer(1, 3600000)),
    consumer("heartbeat.interval.ms", Integer(1, 3600000)),
    consumer("group.protocol.type", Text),
    consumer("group.protocol", Words(&["classic", "consumer"])),
    consumer("group.remote.assignor", Text),
    consumer("coordinator.query.interval.ms", Integer(1, 3600000)),
    consumer("max.poll.interval.ms", Integer(1, 86400000)),
    consumer("enable.auto.commit", Boolean),
    consumer("auto.commit.interval.ms", Integer(0, 86400000)),
    consumer("enable.auto.offset.store", Boolean),
    consumer("queued.min.messages", Integer(1, 10000000)),
    consumer("queued.max.messages.kbytes", Integer(1, 2097151)),
    consumer("fetch.wait.max.ms", Integer(0, 300000)),
    consumer("fetch.queue.backoff.ms", Integer(0, 300000)),
    consumer("max.partition.fetch.bytes", Integer(1, 1000000000)),
    consumer("fetch.max.bytes", Integer(0, 2147483135)),
    consumer("fetch.min.bytes", Integer(1, 100000000)),
    consumer("fetch.error.backoff.ms", Integer(0, 300000)),
    consumer("offset.store.method", Words(&["none", "file", "broker"])),
    consumer("isolation.level", Words(&["read_uncommitted", "read_committed"])),
    consumer("enable.partition.eof", Boolean),
    consumer("check.crcs", Boolean),
    both("client.rack", Text),
    producer("transactional.id", Text),
    producer("transaction.timeout.ms", Integer(1000, 2147483647)),
    producer("enable.idempotence", Boolean),
    producer("enable.gapless.guarantee", Boolean),
    producer("queue.buffering.max.messages", Integer(0, 2147483647)),
    producer("queue.buffering.max.kbytes", Integer(1, 2147483647)),
    producer("linger.ms", Float(0, 900000)),
    producer("retries", Integer(0, 2147483647)),
    both("retry.backoff.ms", Integer(1, 300000)),
    both("retry.backoff.max.ms", Integer(1, 300000)),
    producer("queue.buffering.backpressure.threshold", Integer(1, 1000000)),
    producer("compression.type", Words(&["none", "gzip", "snappy", "lz4", "zstd"])),
    producer("batch.num.messages", Integer(1, 1000000)),
    producer("batch.size", Integer(1, 2147483647)),
    producer("delivery.report.only.error", Boolean),
    producer("sticky.partitioning.linger.ms", Integer(0, 900000)),
    both("client.dns.lookup", Words(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"])),
    both("enable.metrics.push", Boolean),
    producer("acks", Acks),
    producer("request.timeout.ms", Integer(1, 900000)),
    producer("delivery.timeout.ms", Integer(0, 2147483647)),
    producer("queuing.strategy", Words(&["fifo", "lifo"])),
    producer("produce.offset.report", Boolean),
    producer("partitioner", Words(&["random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"])),
    producer("compression.level", Integer(-1, 12)),
    consumer("auto.offset.reset", Words(&["smallest", "earliest", "beginning", "largest", "latest", "end", "error"])),
    consumer("offset.store.path", Text),
    consumer("offset.store.sync.interval.ms", Integer(-1, 86400000)),
    consumer("consume.callback.max.messages", Integer(0, 1000000)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_aliases_lead_to_properties() {
        let mut seen = std::collections::BTreeSet::new();
        for property in PROPERTIES {
            assert!(seen.insert(property.name), "{} stands twice", property.name);
        }
        for (alias, name) in ALIASES {
            assert!(seen.contains(name), "{alias} leads to the unknown {name}");
            assert!(find(alias).is_some_and(|property| property.name == *name));
        }
    }

    #[test]
    fn everything_named_like_a_secret_is_one() {
        for property in PROPERTIES {
            let named = ["password", "passphrase", "secret", "key.pem"]
                .iter()
                .any(|word| property.name.ends_with(word));
            assert!(!named || property.kind == Secret, "{}", property.name);
        }
    }
}
