//! Every scripted fault, seen from the client.

use super::*;
use crate::{BulkFault, Gate, ItemFault, ItemTarget, ItemsChange};

#[test]
fn scripted_items_are_refused_and_their_neighbours_stored() {
    let store = store();
    store.faults().push_item(
        ItemFault::new(
            ItemTarget::id("b"),
            429,
            "es_rejected_execution_exception",
            "full",
        )
        .times(1),
    );
    let body = write("a", 1, "{}") + &write("b", 1, "{}") + &write("c", 1, "{}");
    assert_eq!(statuses(&bulk(&store, &body).json()), [201, 429, 201]);
    assert_eq!(statuses(&bulk(&store, &body).json()), [409, 201, 409]);
    store.faults().push_item(
        ItemFault::new(
            ItemTarget::matching(|operation| operation.id.as_deref() == Some("d")),
            400,
            "action_request_validation_exception",
            "no",
        )
        .whole_request(),
    );
    assert_eq!(
        bulk(&store, &(write("d", 1, "{}") + &write("e", 1, "{}"))).status,
        400
    );
    assert!(store.document("sla", "e").is_none());
}

#[test]
fn scripted_requests_fail_as_written() {
    let store = store();
    let faults = store.faults();
    faults.extend([
        BulkFault::too_many_requests(2),
        BulkFault::html_bad_gateway(),
        BulkFault::ResetBeforeApply,
    ]);
    let busy = bulk(&store, &write("a", 1, "{}"));
    assert_eq!(busy.status, 429);
    assert!(busy.head.to_lowercase().contains("retry-after: 2"));
    assert_eq!(bulk(&store, &write("a", 1, "{}")).status, 502);
    let reset = try_bulk(&store, &write("a", 1, "{}")).expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(store.document("sla", "a").is_none());
    faults.push(BulkFault::ResetAfterApply);
    assert!(try_bulk(&store, &write("a", 1, "{}")).is_err());
    assert!(store.document("sla", "a").is_some());
    assert_eq!(faults.queued(), 0);
    faults.set_standing(Some(BulkFault::error(401, "security_exception", "no")));
    assert_eq!(
        [(); 2].map(|()| bulk(&store, &write("b", 1, "{}")).status),
        [401, 401]
    );
    faults.clear();
    assert_eq!(bulk(&store, &write("b", 1, "{}")).status, 200);
}

#[test]
fn scripted_answers_are_broken_as_written() {
    let store = store();
    let faults = store.faults();
    faults.push(BulkFault::TruncatedBody { keep_bytes: 10 });
    let cut = bulk(&store, &write("a", 1, "{}"));
    assert_eq!(cut.body.len(), 10);
    assert!(!cut.head.contains("content-length: 10\r"));
    faults.push(BulkFault::TruncatedJson { keep_bytes: 10 });
    let short = bulk(&store, &write("b", 1, "{}"));
    assert!(short.head.contains("content-length: 10"));
    assert!(serde_json::from_slice::<Value>(&short.body).is_err());
    faults.push(BulkFault::SlowBody {
        piece_bytes: 7,
        pause: Duration::from_millis(1),
    });
    assert_eq!(statuses(&bulk(&store, &write("c", 1, "{}")).json()), [201]);
    for (change, items) in [(ItemsChange::Fewer(1), 1), (ItemsChange::More(2), 4)] {
        faults.push(BulkFault::Items(change));
        let answer = bulk(&store, &(write("d", 1, "{}") + &write("e", 1, "{}"))).json();
        assert_eq!(answer["items"].as_array().expect("items").len(), items);
    }
    faults.extend(
        [
            ItemsChange::Reversed,
            ItemsChange::ForeignIds("!"),
            ItemsChange::ForeignAction("create"),
            ItemsChange::ErrorsFlag(false),
        ]
        .map(BulkFault::Items),
    );
    let answers =
        [(); 4].map(|()| bulk(&store, &(write("f", 1, "{}") + &write("g", 1, "[]"))).json());
    assert_eq!(answers[0]["items"][0]["index"]["_id"], "g");
    assert_eq!(answers[1]["items"][0]["index"]["_id"], "f!");
    assert_eq!(answers[2]["items"][0]["create"]["_id"], "f");
    assert_eq!(answers[3]["errors"], false);
    assert_eq!(statuses(&answers[3]), [409, 400]);
}

#[test]
fn flights_for_one_document_are_counted() {
    let store = store();
    let gate = Gate::closed();
    store.faults().extend([
        BulkFault::HoldBeforeApply(gate.clone()),
        BulkFault::HoldBeforeAnswer(gate.clone()),
    ]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| bulk(&store, &write("a", 1, "{}")).status);
        let second =
            scope.spawn(|| bulk(&store, &(write("a", 2, "{}") + &write("b", 1, "{}"))).status);
        assert!(store.observations().wait_for_bulks(2, DEADLINE));
        gate.open();
        assert_eq!(first.join().expect("a client"), 200);
        assert_eq!(second.join().expect("a client"), 200);
    });
    assert_eq!(bulk(&store, &write("a", 3, "{}")).status, 200);
    assert_eq!(store.observations().flights_max(), 2);
    assert_eq!(store.observations().flights_max_of("sla", "a"), 2);
    assert_eq!(store.observations().flights_max_of("sla", "b"), 1);
}

#[test]
fn a_request_whose_client_left_is_still_applied() {
    let store = store();
    let gate = Gate::closed();
    store
        .faults()
        .push(BulkFault::HoldBeforeApply(gate.clone()));
    let body = write("a", 1, "{}");
    let mut client = TcpStream::connect(store.address()).expect("a connection");
    let head = format!(
        "POST /_bulk HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes()).expect("sent");
    assert!(store.observations().wait_for_bulks(1, DEADLINE));
    drop(client);
    gate.open();
    assert!(store.wait_for_documents("sla", DEADLINE, |documents| documents.len() == 1));
}

#[test]
fn a_stopped_store_refuses_and_keeps_its_documents_and_port() {
    let store = store();
    bulk(&store, &write("a", 1, "{}"));
    store.faults().push(BulkFault::BlackHole);
    std::thread::scope(|scope| {
        let silent = scope.spawn(|| try_bulk(&store, &write("b", 1, "{}")).is_err());
        assert!(store.observations().wait_for_bulks(2, DEADLINE));
        store.stop_listening();
        assert!(silent.join().expect("a client"));
    });
    let refused = TcpStream::connect(store.address()).expect_err("a refusal");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    store.listen_again().expect("the same port");
    assert_eq!(get(&store, "/sla/_doc/a").status, 200);
    assert_eq!(get(&store, "/sla/_doc/b").status, 404);
}

#[test]
fn the_record_of_requests_is_bounded() {
    let store = DocumentStore::start(Settings {
        observed_bulks_max: 3,
        observed_bytes_max: 400,
        ..Settings::default()
    })
    .expect("a store");
    for id in ["a", "b", "c", "d"] {
        bulk(&store, &write(id, 1, "{}"));
    }
    let kept = |store: &DocumentStore| -> Vec<u64> {
        let bulks = store.observations().bulks();
        bulks.iter().map(|bulk| bulk.sequence).collect()
    };
    assert_eq!(kept(&store), [1, 2, 3]);
    bulk(
        &store,
        &write("e", 1, &format!("{{\"text\":\"{}\"}}", "x".repeat(500))),
    );
    assert_eq!(kept(&store), [4]);
    assert_eq!(store.observations().received(), 5);
}
