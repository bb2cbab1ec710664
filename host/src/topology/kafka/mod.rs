//! librdkafka properties: Weir's defaults, the layers of the file, and what the host owns.

pub mod catalogue;
mod layer;

pub(super) use layer::{Layer, Setting, combine};

/// Where Weir's defaults differ from librdkafka's, completely, with the reason for each.
pub const DEFAULTS: &[(&str, &str, &str)] = &[
    (
        "auto.offset.reset",
        "earliest",
        "a new pipeline reads what is there",
    ),
    (
        "isolation.level",
        "read_committed",
        "aborted records are nobody's input",
    ),
    (
        "partitioner",
        "murmur2_random",
        "a key lands where Java's producers put it",
    ),
    ("acks", "all", "an acknowledged record survives a broker"),
    (
        "enable.idempotence",
        "true",
        "a retry makes no duplicate and keeps the order",
    ),
    (
        "enable.auto.commit",
        "false",
        "the host commits what is settled",
    ),
    (
        "enable.partition.eof",
        "true",
        "the watermark needs to know a partition's end",
    ),
    (
        "session.timeout.ms",
        "10000",
        "a dead host is replaced within seconds",
    ),
    (
        "transaction.timeout.ms",
        "15000",
        "a dead host's open transaction holds readers back this long",
    ),
    // Prefetch: 20,000 records and 16 MiB over all partitions together keep a host below 100 MB
    // at full speed; with librdkafka's 1 s back-off a queue this short would run dry.
    ("queued.min.messages", "20000", "bounds prefetched records"),
    (
        "queued.max.messages.kbytes",
        "16384",
        "bounds prefetched bytes",
    ),
    (
        "fetch.queue.backoff.ms",
        "5",
        "refills the short prefetch queue in time",
    ),
    (
        "queue.buffering.max.kbytes",
        "65536",
        "bounds bytes waiting to be produced",
    ),
];

/// What the broker decides under KIP-848; librdkafka makes no consumer that sets one of them.
pub const OF_CLASSIC_PROTOCOL: &[&str] = &[
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol.type",
];

/// Properties that the host sets itself, with the cure for whoever sets them.
pub const OWNED: &[(&str, &str)] = &[
    ("group.id", "Use the source's `group`."),
    (
        "transactional.id",
        "Remove it; the host names its transactions, and `--instance NAME` makes the name fixed.",
    ),
    (
        "enable.auto.commit",
        "Remove it; the host commits what is settled, every `checkpoint_interval`.",
    ),
    (
        "enable.auto.offset.store",
        "Remove it; the host stores offsets when records are settled.",
    ),
    (
        "enable.partition.eof",
        "Remove it; the host needs the end of partitions for its watermark.",
    ),
    (
        "delivery.report.only.error",
        "Remove it; the host counts delivery reports.",
    ),
    (
        "enabled_events",
        "Remove it; the host chooses how it hears of events.",
    ),
    (
        "log.queue",
        "Remove it; librdkafka's log lines come with the host's.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_owned_properties_are_in_the_catalogue() {
        for (name, value, reason) in DEFAULTS {
            let property = catalogue::find(name).unwrap_or_else(|| panic!("{name} is unknown"));
            assert_eq!(property.name, *name, "an alias is no key of a layer");
            assert_eq!(layer::refusal(property, value), None, "{name}");
            assert!(!reason.is_empty());
        }
        for (name, _) in OWNED {
            assert!(
                catalogue::find(name).is_some_and(|property| property.name == *name),
                "{name}"
            );
        }
    }
}
