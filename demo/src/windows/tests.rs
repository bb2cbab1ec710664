use weir_document_store::{DocumentStore, Settings};

use super::*;

fn document(start: &str, count: u64, p90: f64) -> Value {
    json!({"@timestamp": start, "p50": 1.0, "p90": p90, "p99": 9.0, "p99_9": 10.0, "p9": 0.5, "count": count, "min": 0.0, "max": 10.0})
}

#[test]
fn a_document_becomes_a_window_with_ordered_percentiles() {
    let window =
        Window::from_document(&document("2024-09-10T13:37:00+00:00", 5, 8.0)).expect("a window");
    let names: Vec<&str> = window
        .percentiles
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["p9", "p50", "p90", "p99", "p99_9"]);
    assert!(!window.misses_sla());
    assert_eq!(Window::from_document(&json!({"count": 1})), None);
}

#[test]
fn the_sla_is_missed_above_five_seconds() {
    let missed = |p90| {
        Window::from_document(&document("2024-09-10T13:37:00Z", 5, p90))
            .expect("a window")
            .misses_sla()
    };
    assert!(!missed(5_000.0));
    assert!(missed(5_000.1));
}

#[test]
fn a_correction_is_told_apart_from_a_new_window() {
    let mut windows = Windows::default();
    let window = |count| {
        Window::from_document(&document("2024-09-10T13:37:00Z", count, 1.0)).expect("a window")
    };
    windows.add(window(5));
    windows.add(window(5));
    windows.add(window(6));
    let arrivals: Vec<Arrival> = windows
        .take_unseen()
        .into_iter()
        .map(|(_, arrival)| arrival)
        .collect();
    assert_eq!(arrivals, [Arrival::Closed, Arrival::Corrected]);
    assert_eq!(windows.closed, 1);
    assert!(windows.take_unseen().is_empty());
}

#[test]
fn windows_are_read_from_the_store_since_the_start() {
    let store = DocumentStore::start(Settings::default()).expect("a store");
    let windows = Arc::new(Mutex::new(Windows::default()));
    let from = "2024-09-10T13:37:00Z".parse().expect("a moment");
    let reader = WindowReader::new(&store.url(), from, Arc::clone(&windows));
    reader.read();
    assert_eq!(windows.lock().expect("a lock").trouble, None);
    let bulk: String = [
        "2024-09-10T13:38:00+00:00",
        "2024-09-10T13:36:00+00:00",
        "2024-09-10T13:37:00+00:00",
    ]
    .iter()
    .map(|start| {
        format!(
            "{}\n{}\n",
            json!({"index": {"_id": start}}),
            document(start, 3, 1.0)
        )
    })
    .collect();
    let answer = ureq::post(format!("{}/{INDEX}/_bulk", store.url()))
        .content_type("application/x-ndjson")
        .send(bulk);
    assert!(answer.is_ok());
    reader.read();
    let starts: Vec<String> = windows
        .lock()
        .expect("a lock")
        .take_unseen()
        .iter()
        .map(|(window, _)| window.start.to_string())
        .collect();
    assert_eq!(starts, ["2024-09-10T13:37:00Z", "2024-09-10T13:38:00Z"]);
    store.stop_listening();
    reader.read();
    assert!(windows.lock().expect("a lock").trouble.is_some());
}
