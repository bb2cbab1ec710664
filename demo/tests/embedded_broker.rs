//! The generator and the observer against the embedded broker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use weir_demo::observe::{Counts, Observer};
use weir_demo::produce::{Deliveries, Generator};
use weir_demo::topics::{self, DEAD_LETTERS, REDUCED_VISITS, VISITS};
use weir_demo::visits::{OPEN_VISITS, Visits};

const DEADLINE: Duration = Duration::from_secs(60);

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn the_generator_delivers_its_rows() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    topics::create_in_mock(&cluster).expect("topics");
    let deliveries = Arc::new(Deliveries::default());
    let mut generator = Generator::new(
        &cluster.bootstrap_servers(),
        VISITS,
        1_000.0,
        Visits::new(1, OPEN_VISITS),
        Arc::clone(&deliveries),
    )
    .expect("a generator");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let generating = scope.spawn(|| generator.run(&stop));
        let delivered = wait_until(|| deliveries.sent.load(Ordering::Relaxed) >= 300);
        stop.store(true, Ordering::Relaxed);
        assert!(delivered);
        generating.join().expect("a thread").expect("a clean end");
    });
    assert_eq!(deliveries.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn the_observer_counts_from_the_ends_of_the_topics() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    topics::create_in_mock(&cluster).expect("topics");
    let bootstrap = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .create()
        .expect("a producer");
    let send = |topic: &str, reason: Option<&str>| {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload("x");
        if reason.is_some() {
            record = record.headers(OwnedHeaders::new().insert(Header {
                key: "__connect.errors.exception.class.name",
                value: reason,
            }));
        }
        producer
            .send(record)
            .map_err(|(cause, _)| cause)
            .expect("room");
        producer.flush(DEADLINE).expect("an acknowledgement");
    };
    send(REDUCED_VISITS, None);
    let counts = Arc::new(Mutex::new(Counts::default()));
    let observer = Observer::new(&bootstrap, Arc::clone(&counts)).expect("an observer");
    let stop = AtomicBool::new(false);
    let seen = || counts.lock().expect("a lock").clone();
    std::thread::scope(|scope| {
        scope.spawn(|| observer.run(&stop));
        for _ in 0..3 {
            send(REDUCED_VISITS, None);
        }
        send(DEAD_LETTERS[0], Some("code.a"));
        send(DEAD_LETTERS[1], Some("code.b"));
        send(DEAD_LETTERS[1], None);
        let counted = wait_until(|| seen().reduced >= 3 && seen().dead_letters >= 3);
        stop.store(true, Ordering::Relaxed);
        assert!(counted, "{:?}", seen());
    });
    assert_eq!(seen().reduced, 3);
    let reasons: Vec<(String, u64)> = seen().reasons.into_iter().collect();
    let expected = ["code.a", "code.b", "without a reason"].map(|reason| (reason.to_owned(), 1));
    assert_eq!(reasons, expected);
}
