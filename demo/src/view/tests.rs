use super::*;

fn places() -> Places {
    Places {
        bootstrap: "127.0.0.1:9".to_owned(),
        embedded_broker: true,
        elasticsearch: "http://127.0.0.1:8/".to_owned(),
        embedded_store: true,
        processing_delay: "0s".to_owned(),
        rate: 200.0,
        seed: 4,
        log_path: PathBuf::from("up.log"),
    }
}

fn snapshot() -> Snapshot {
    let pipeline = PipelineLog {
        role: Some("active".to_owned()),
        http: Some("127.0.0.1:6".to_owned()),
        starts: 1,
    };
    Snapshot {
        elapsed: Duration::from_secs(75),
        sent: 12_345,
        failed: 0,
        counts: Counts {
            reduced: 12_000,
            dead_letters: 345,
            reasons: BTreeMap::from([("a.rare".to_owned(), 45), ("b.common".to_owned(), 300)]),
            trouble: None,
        },
        per_second: [200.4, 9.5, 0.0],
        http: Some("127.0.0.1:7".to_owned()),
        pipelines: BTreeMap::from([("reduce-visits".to_owned(), pipeline)]),
        readiness: BTreeMap::from([("reduce-visits".to_owned(), Readiness::Ready)]),
        windows_closed: 1,
        store_trouble: None,
    }
}

fn window(p90: f64) -> Window {
    Window {
        start: "2024-09-10T13:37:00Z".parse().expect("a moment"),
        count: 11_934,
        percentiles: vec![("p50".to_owned(), 2.0), ("p90".to_owned(), p90)],
    }
}

#[test]
fn a_window_is_one_line() {
    assert_eq!(
        window_line(&window(12.34), Arrival::Closed, true),
        "window 13:37:00Z  count  11,934  p50    2.0 ms  p90   12.3 ms"
    );
}

#[test]
fn a_miss_is_marked_and_a_correction_is_named() {
    let line = window_line(&window(10_250.0), Arrival::Corrected, false);
    assert!(
        line.contains("p90 10,250 ms  SLA MISS (p90 above 5,000 ms)"),
        "{line}"
    );
    assert!(line.ends_with("corrected: late records came"), "{line}");
    assert!(window_line(&window(10_250.0), Arrival::Closed, true).contains("\x1b[1;31mSLA MISS"));
}

#[test]
fn the_status_says_rates_reasons_states_and_where_to_look() {
    let block = status_block(&places(), &snapshot(), 200).join("\n");
    for part in [
        "01:15  visits    200/s  reduced   9.50/s  dead letters     0/s  windows closed 1",
        "sent 12,345  reduced 12,000  dead letters 345",
        "reasons  b.common 300  a.rare 45",
        "reduce-visits: ready, active",
        "http://127.0.0.1:8/visits_sync_sla/_search",
        "http://127.0.0.1:7/metrics",
        "make demo DELAY=10s",
    ] {
        assert!(block.contains(part), "{part} is not in\n{block}");
    }
    assert!(!block.contains("trouble"));
    let line = status_line(&snapshot());
    assert!(line.contains("reduced 12000 (9.50/s)"), "{line}");
    assert!(line.contains("reduce-visits ready, active"), "{line}");
}

#[test]
fn the_block_fits_the_terminal() {
    let lines = status_block(&places(), &snapshot(), 30);
    assert!(
        lines.iter().all(|line| line.chars().count() <= 30),
        "{lines:#?}"
    );
}

#[test]
fn troubles_are_shown() {
    let mut snapshot = snapshot();
    snapshot.failed = 3;
    snapshot.store_trouble = Some("document store: refused".to_owned());
    snapshot.readiness.insert(
        "reduce-visits".to_owned(),
        Readiness::NotReady {
            reason: "sink waits".to_owned(),
        },
    );
    let block = status_block(&places(), &snapshot, 200).join("\n");
    for part in [
        "3 visits could not be sent",
        "document store: refused",
        "not ready: sink waits",
    ] {
        assert!(block.contains(part), "{part} is not in\n{block}");
    }
    assert!(status_line(&snapshot).contains("document store: refused"));
}

#[test]
fn the_opening_names_the_limits_of_the_embedded_broker_only() {
    let embedded = opening(&places()).join("\n");
    for part in [
        "transactions without effect",
        "LogAppendTime",
        "5 MiB a partition",
        "no admin API",
    ] {
        assert!(embedded.contains(part), "{part}");
    }
    let real = Places {
        embedded_broker: false,
        ..places()
    };
    assert!(!opening(&real).join("\n").contains("mock"));
}

#[test]
fn rates_are_means_over_the_last_seconds() {
    let start = Instant::now();
    let mut rates = Rates::default();
    assert_eq!(rates.per_second(), [0.0; 3]);
    for second in 0..=20_u64 {
        let sent = if second <= 10 { 100 * second } else { 1_000 };
        rates.sample(start + Duration::from_secs(second), [sent, second, 0]);
    }
    assert_eq!(rates.per_second(), [0.0, 1.0, 0.0]);
}

#[test]
fn numbers_are_grouped() {
    assert_eq!(
        [0, 999, 1_000, 1_234_567].map(grouped),
        ["0", "999", "1,000", "1,234,567"]
    );
    assert_eq!(milliseconds(-2_000.4), "-2,000 ms");
}
