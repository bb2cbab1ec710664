//! The schedule: a pure function of seed, length and pace.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What faults happen to. The faults of one lane come one after the other; those of several overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The hosts of `reduce-visits`.
    Reduce,
    /// The hosts of `visits-sla`.
    Windows,
    Kafka,
    Elasticsearch,
    /// The network between hosts and Kafka.
    KafkaPath,
    /// The network between hosts and Elasticsearch.
    ElasticsearchPath,
}

impl Lane {
    pub const ALL: [Lane; 6] = [
        Lane::Reduce,
        Lane::Windows,
        Lane::Kafka,
        Lane::Elasticsearch,
        Lane::KafkaPath,
        Lane::ElasticsearchPath,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Lane::Reduce => "reduce-visits",
            Lane::Windows => "visits-sla",
            Lane::Kafka => "kafka",
            Lane::Elasticsearch => "elasticsearch",
            Lane::KafkaPath => "kafka-path",
            Lane::ElasticsearchPath => "elasticsearch-path",
        }
    }
}

/// One fault. `host` counts the hosts of the lane from 0; a host that ends is followed by another of the same number,
/// unless it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and another one at once.
    Kill { host: usize },
    /// SIGTERM, and another one after its end.
    Drain { host: usize },
    /// SIGSTOP, and SIGCONT after a time that is longer than its session.
    Stop { host: usize, for_ms: u64 },
    /// One more host.
    Join,
    /// The host with the highest number gets SIGTERM, and none follows.
    Leave,
    /// The server gets SIGKILL, and is started again.
    Crash { for_ms: u64 },
    /// The server gets SIGTERM, and is started again.
    Restart { for_ms: u64 },
    /// Connections drop, and new ones are refused.
    Cut { for_ms: u64 },
    /// Connections stay, and nothing passes.
    Silence { for_ms: u64 },
    /// Everything takes longer.
    Slow { by_ms: u64, for_ms: u64 },
}

impl Fault {
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill -9",
            Fault::Drain { .. } => "SIGTERM",
            Fault::Stop { .. } => "SIGSTOP",
            Fault::Join => "join",
            Fault::Leave => "leave",
            Fault::Crash { .. } => "kill -9 and restart",
            Fault::Restart { .. } => "orderly restart",
            Fault::Cut { .. } => "cut",
            Fault::Silence { .. } => "silent",
            Fault::Slow { .. } => "slow",
        }
    }

    /// How long the fault itself takes; not what follows from it.
    fn lasts_ms(self) -> u64 {
        match self {
            Fault::Stop { for_ms, .. }
            | Fault::Crash { for_ms }
            | Fault::Restart { for_ms }
            | Fault::Cut { for_ms }
            | Fault::Silence { for_ms }
            | Fault::Slow { for_ms, .. } => for_ms,
            Fault::Kill { .. } | Fault::Drain { .. } | Fault::Join | Fault::Leave => 0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Fault::Kill { host } | Fault::Drain { host } => write!(f, ", host {host}"),
            Fault::Stop { host, for_ms } => write!(f, ", host {host}, for {for_ms} ms"),
            Fault::Slow { by_ms, for_ms } => write!(f, " by {by_ms} ms, for {for_ms} ms"),
            Fault::Crash { for_ms }
            | Fault::Restart { for_ms }
            | Fault::Cut { for_ms }
            | Fault::Silence { for_ms } => write!(f, ", for {for_ms} ms"),
            Fault::Join | Fault::Leave => Ok(()),
        }
    }
}

/// A fault and when it begins, counted from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub lane: Lane,
    pub fault: Fault,
}

/// How often what fails.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The lanes with faults.
    pub lanes: Vec<Lane>,
    /// librdkafka's `session.timeout.ms` of the hosts; a stopped host is stopped for longer.
    pub session_timeout_ms: u64,
    /// Milliseconds between two faults of a host, of a network path, of a server.
    pub host_gap_ms: RangeInclusive<u64>,
    pub path_gap_ms: RangeInclusive<u64>,
    pub server_gap_ms: RangeInclusive<u64>,
}

impl Pace {
    /// About 14 faults a minute, with the reference job's own timeouts.
    pub fn usual() -> Pace {
        Pace {
            lanes: Lane::ALL.to_vec(),
            session_timeout_ms: 10_000,
            host_gap_ms: 2_000..=16_000,
            path_gap_ms: 8_000..=30_000,
            server_gap_ms: 40_000..=90_000,
        }
    }

    fn gap_ms(&self, lane: Lane) -> RangeInclusive<u64> {
        match lane {
            Lane::Reduce | Lane::Windows => self.host_gap_ms.clone(),
            Lane::KafkaPath | Lane::ElasticsearchPath => self.path_gap_ms.clone(),
            Lane::Kafka | Lane::Elasticsearch => self.server_gap_ms.clone(),
        }
    }
}

/// Hosts of one pipeline at once, at most.
const HOSTS_MAX: usize = 3;

/// Every fault of a run, by time.
pub fn schedule(seed: u64, length: Duration, pace: &Pace) -> Vec<Event> {
    let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut events = Vec::new();
    for &lane in &pace.lanes {
        // A generator of its own, so that a lane that is left out changes nothing for the others.
        let lane_seed = seed ^ (lane as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = fastrand::Rng::with_seed(lane_seed);
        let mut hosts = 1;
        let mut at_ms = random.u64(pace.gap_ms(lane));
        while at_ms < length_ms {
            let fault = fault(lane, &mut hosts, pace, &mut random);
            events.push(Event {
                at: Duration::from_millis(at_ms),
                lane,
                fault,
            });
            at_ms += fault.lasts_ms() + random.u64(pace.gap_ms(lane));
        }
    }
    events.sort_by_key(|event| (event.at, event.lane));
    events
}

fn fault(lane: Lane, hosts: &mut usize, pace: &Pace, random: &mut fastrand::Rng) -> Fault {
    match lane {
        Lane::Reduce | Lane::Windows => host_fault(hosts, pace, random),
        Lane::Kafka | Lane::Elasticsearch => {
            let for_ms = random.u64(0..=4_000);
            match random.bool() {
                true => Fault::Crash { for_ms },
                false => Fault::Restart { for_ms },
            }
        }
        Lane::KafkaPath | Lane::ElasticsearchPath => match random.u8(0..3) {
            0 => Fault::Cut {
                for_ms: random.u64(500..=8_000),
            },
            1 => Fault::Silence {
                for_ms: random.u64(1_000..=15_000),
            },
            _ => Fault::Slow {
                by_ms: random.u64(20..=300),
                for_ms: random.u64(2_000..=10_000),
            },
        },
    }
}

fn host_fault(hosts: &mut usize, pace: &Pace, random: &mut fastrand::Rng) -> Fault {
    let host = random.usize(0..*hosts);
    match random.u8(0..10) {
        0..=2 => Fault::Kill { host },
        3..=4 => Fault::Drain { host },
        5..=6 => Fault::Stop {
            host,
            for_ms: pace.session_timeout_ms + random.u64(1_000..=5_000),
        },
        7..=8 if *hosts < HOSTS_MAX => {
            *hosts += 1;
            Fault::Join
        }
        _ if *hosts > 1 => {
            *hosts -= 1;
            Fault::Leave
        }
        _ => {
            *hosts += 1;
            Fault::Join
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TWENTY_MINUTES: Duration = Duration::from_secs(20 * 60);

    #[test]
    fn a_seed_is_one_schedule_and_another_is_another() {
        let pace = Pace::usual();
        let events = schedule(7, TWENTY_MINUTES, &pace);
        assert_eq!(events, schedule(7, TWENTY_MINUTES, &pace));
        assert_ne!(events, schedule(8, TWENTY_MINUTES, &pace));
    }

    #[test]
    fn every_seed_has_200_faults_of_every_kind_in_20_minutes() {
        for seed in 0..50 {
            let events = schedule(seed, TWENTY_MINUTES, &Pace::usual());
            assert!(events.len() >= 200, "seed {seed}: {}", events.len());
            assert!(events.is_sorted_by_key(|event| event.at));
            let kinds: BTreeSet<_> = events.iter().map(|e| (e.lane, e.fault.kind())).collect();
            // Two pipelines with five, two servers with two, two paths with three.
            assert_eq!(kinds.len(), 20, "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn a_fault_names_a_host_that_is_there() {
        for seed in 0..50 {
            let mut hosts = 1;
            for event in schedule(seed, TWENTY_MINUTES, &Pace::usual()) {
                if event.lane != Lane::Reduce {
                    continue;
                }
                match event.fault {
                    Fault::Join => hosts += 1,
                    Fault::Leave => hosts -= 1,
                    Fault::Kill { host } | Fault::Drain { host } => assert!(host < hosts),
                    Fault::Stop { host, for_ms } => {
                        assert!(host < hosts);
                        assert!(for_ms > Pace::usual().session_timeout_ms);
                    }
                    other => panic!("{other} of a host"),
                }
                assert!((1..=HOSTS_MAX).contains(&hosts));
            }
        }
    }
}
