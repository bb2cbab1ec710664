//! I1 and I2 under every policy: what may be committed, and what became of each record.

mod ledger_model;
mod model;
mod rig;
mod watermark_model;

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use weir_plugin_api::host::OwnedBatch;
use weir_plugin_api::{Batch, Consumed, Output, Record, SLOT_ALL, TimerRequest, error_kind};

use super::advance::{INPUT_RECORDS_MAX, TIMERS_MAX};
use super::*;
use crate::topology::{Policy, Scope};
use rig::{FakeKafka, Rig, derived, refusal_of, stopped, text, values};

const OUT: Receiver = Receiver::Sink(0);
const TRANSFORM: Receiver = Receiver::Transform(0);

fn pass<'b>(batch: &Batch<'b>, out: &mut Output<'b>) -> Consumed {
    batch.records.iter().for_each(|record| out.emit(*record));
    Consumed::ok(batch.records.len())
}

fn too_large(value: &str) -> Option<RDKafkaErrorCode> {
    value
        .starts_with("large")
        .then_some(RDKafkaErrorCode::MessageSizeTooLarge)
}

#[test]
fn a_produce_failure_met_while_another_refusal_ends_the_host_stays_open() {
    let kafka = FakeKafka::new();
    kafka.0.borrow_mut().broker = too_large;
    let (mut rig, _) = Rig::new(Policy::Fail, kafka)
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Record, &[OUT], |batch, out| {
            for record in batch.records.iter() {
                match text(record) {
                    "bad" => out.fail(refusal_of(record)),
                    _ => out.emit(*record),
                }
            }
            Consumed::ok(batch.records.len())
        });
    rig.push(0, &values(&["large"]), false).expect("pushed");
    rig.run().expect("produced");
    rig.push(1, &values(&["good", "bad"]), false)
        .expect("pushed");
    assert!(matches!(rig.run(), Err(FlowError::Refused { .. })));
    rig.flow.finish_before_refused(&mut rig.counters);
    let first = rig.flow.flush_outbox(Duration::ZERO);
    assert!(first.is_err(), "Kafka refused the first record: {first:?}");
    let _ = rig.flow.flush_outbox(Duration::ZERO);
    assert_eq!(rig.committable(3), 0, "it is neither delivered nor excused");
}

#[test]
fn under_fail_everything_before_the_refused_record_is_delivered_whatever_order_it_is_emitted_in() {
    let (mut rig, _) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Record, &[OUT], |batch, out| {
            for record in batch.records.iter().rev() {
                match text(record) {
                    "bad" => out.fail(refusal_of(record)),
                    _ => out.emit(*record),
                }
            }
            out.emit(derived("sum"));
            Consumed::ok(batch.records.len())
        });
    rig.push(10, &values(&["a", "b", "bad", "c"]), false)
        .expect("pushed");
    assert!(matches!(rig.run(), Err(FlowError::Refused { .. })));
    rig.flow.finish_before_refused(&mut rig.counters);
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.kafka.delivered("out"), ["b", "a", "sum"]);
    assert_eq!(rig.committable(14), 12);
}

#[test]
fn a_record_refused_at_its_source_ends_the_host_exactly_there() {
    let mut rig = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[OUT])
        .kafka_sink("out");
    let batch = values(&["a", "future", "c"]);
    let mut judge = |at: i64| {
        (at == 1).then(|| Refusal {
            stage: Stage::Transformation,
            node: "source".into(),
            class: "weir".into(),
            code: "scripted.future".into(),
            message: "scripted".into(),
            detail: String::new(),
        })
    };
    let fields = |first: u64| {
        let numbered = batch.iter().zip(first..).zip(0..);
        OwnedBatch::copy_of(numbered.map(|((value, seq), offset)| {
            weir_plugin_api::host::RecordFields {
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
                timestamp_ms: offset,
                timestamp_type: 1,
                offset,
                slot: 0,
                seq,
            }
        }))
    };
    let pushed = rig.flow.push(0, 0, 0..3, false, fields, Some(&mut judge));
    assert!(matches!(pushed, Err(FlowError::Refused { .. })));
    rig.flow.finish_before_refused(&mut rig.counters);
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.kafka.delivered("out"), ["a"]);
    assert_eq!(rig.committable(3), 1);
}

#[test]
fn what_the_client_refuses_by_itself_needs_no_second_reading() {
    let kafka = FakeKafka::new();
    kafka.0.borrow_mut().client = |value| {
        let code = RDKafkaErrorCode::MessageSizeTooLarge;
        (value == "large!").then_some(code)
    };
    let (mut rig, _) = Rig::new(Policy::DeadLetter, kafka)
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Record, &[OUT], |batch, out| {
            for record in batch.records.iter() {
                let value = out.copy(format!("{}!", text(record)).as_bytes());
                out.emit(Record {
                    value: weir_plugin_api::Bytes::from_option(Some(value)),
                    ..*record
                });
            }
            Consumed::ok(batch.records.len())
        });
    rig.push(0, &values(&["a", "large", "b"]), false)
        .expect("pushed");
    rig.run().expect("no reason to go back");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.kafka.delivered("out"), ["a!", "b!"]);
    assert_eq!(rig.kafka.delivered(rig::DEAD_LETTERS), ["large"]);
    assert_eq!(rig.committable(3), 3);
}

#[test]
fn a_batch_that_the_broker_refuses_costs_its_good_records_nothing() {
    for policy in [Policy::Skip, Policy::Fail, Policy::DeadLetter] {
        let kafka = FakeKafka::new();
        kafka.0.borrow_mut().broker = too_large;
        let mut rig = Rig::new(policy, kafka)
            .with_receivers(&[OUT])
            .kafka_sink("out");
        rig.push(0, &values(&["a", "large", "b"]), false)
            .expect("pushed");
        rig.run().expect("produced");
        let flushed = rig.flow.flush_outbox(Duration::ZERO);
        assert!(
            matches!(flushed, Err(FlowError::Isolate { .. })),
            "{policy:?}"
        );
        assert_eq!(rig.committable(3), 0, "{policy:?}");
    }
}

#[test]
fn a_derived_record_that_kafka_refuses_becomes_a_dead_letter_at_once() {
    let kafka = FakeKafka::new();
    kafka.0.borrow_mut().broker = too_large;
    let (mut rig, _) = Rig::new(Policy::DeadLetter, kafka)
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Partition, &[OUT], |batch, out| {
            out.emit(derived("large window"));
            Consumed::ok(batch.records.len())
        });
    rig.push(0, &values(&["a"]), false).expect("pushed");
    rig.run().expect("produced");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.kafka.delivered(rig::DEAD_LETTERS), ["large window"]);
    assert_eq!(rig.committable(1), 1);
}

/// A transform that makes two windows of each batch, for brokers that refuse one.
fn windows_in_a_transaction() -> Rig {
    let kafka = FakeKafka::new();
    kafka.0.borrow_mut().broker = too_large;
    let (mut rig, _) = Rig::new(Policy::DeadLetter, kafka)
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Partition, &[OUT], |batch, out| {
            for window in ["window", "large window", "last window"] {
                out.emit(derived(window));
            }
            Consumed::ok(batch.records.len())
        });
    rig.flow.is_transactional = true;
    rig
}

/// I4: what the broker took with it is lost, so the output is looked for and refused when it is made again.
#[test]
fn a_derived_record_that_breaks_its_transaction_is_found_and_refused() {
    let mut rig = windows_in_a_transaction();
    rig.push(0, &values(&["a"]), false).expect("pushed");
    rig.run().expect("produced");
    let flushed = rig.flow.flush_outbox(Duration::ZERO);
    assert!(matches!(flushed, Err(FlowError::IsolateOutputs { .. })));

    let mut rig = windows_in_a_transaction();
    rig.flow.alone = Alone::new(true);
    rig.push(0, &values(&["a"]), false).expect("pushed");
    rig.run().expect("produced");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.kafka.delivered("out"), ["window"]);
    rig.run().expect("produced");
    let flushed = rig.flow.flush_outbox(Duration::ZERO);
    let Err(FlowError::Poisoned { poison, refusal }) = flushed else {
        panic!("{flushed:?}")
    };

    let mut rig = windows_in_a_transaction();
    rig.flow.alone = Alone::new(true);
    rig.flow.poison.insert(poison, *refusal);
    rig.push(0, &values(&["a"]), false).expect("pushed");
    assert!(!rig.flow.has_refused_output());
    for _ in 0..4 {
        rig.run().expect("produced");
        assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    }
    assert_eq!(rig.kafka.delivered("out"), ["window", "last window"]);
    assert_eq!(rig.kafka.delivered(rig::DEAD_LETTERS), ["large window"]);
    assert_eq!(rig.committable(1), 1);
    assert!(rig.flow.has_refused_output());
    rig.flow.end_search();
    rig.push(0, &values(&["a"]), false).expect("pushed");
    rig.run().expect("produced");
    assert_eq!(rig.kafka.0.borrow().in_flight.len(), 3, "together again");
}

/// A transaction may end before every output has left alone; the next one gets further (I4).
#[test]
fn outputs_that_were_accepted_need_not_wait_again_after_a_rewind() {
    let mut rig = windows_in_a_transaction();
    rig.flow.alone = Alone::new(true);
    rig.kafka.0.borrow_mut().broker = |_| None;
    let in_flight = |rig: &Rig| rig.kafka.0.borrow().in_flight.len();
    rig.push(0, &values(&["a"]), false).expect("pushed");
    for _ in 0..2 {
        rig.run().expect("produced");
        assert_eq!(in_flight(&rig), 1);
        assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    }
    rig.run().expect("the third is on its way");
    rig.flow.rewind().expect("made anew");
    rig.kafka.0.borrow_mut().in_flight.clear();

    rig.push(0, &values(&["a"]), false).expect("pushed");
    rig.run().expect("produced");
    assert_eq!(in_flight(&rig), 2, "both that were taken, at once");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    rig.run().expect("produced");
    assert_eq!(in_flight(&rig), 1);
}

#[test]
fn a_cut_waits_for_every_document_that_was_derived() {
    let (mut rig, _) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .plugin_sink()
        .transform(Scope::Partition, &[OUT], |batch, out| {
            out.emit(derived("window"));
            Consumed::ok(batch.records.len())
        });
    rig.push(0, &values(&["a"]), false).expect("pushed");
    rig.run().expect("written");
    assert_eq!(rig.flow.cut(&[2]), None, "the document is on its way");
    rig.flow.poll_sinks(&mut rig.counters).expect("stored");
    assert_eq!(rig.flow.cut(&[2]), Some(vec![2]));
}

#[test]
fn a_cut_behind_a_slow_call_leaves_the_rest_of_its_batch() {
    let (mut rig, _) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Record, &[OUT], |batch, out| {
            out.emit(batch.records[0]);
            Consumed::ok(1)
        });
    rig.push(0, &values(&["a", "b", "c"]), false)
        .expect("pushed");
    for done in 1..=3 {
        let _ = rig.flow.advance(&mut rig.counters).expect("a call");
        assert_eq!(rig.flow.cut(&[3]), None, "its output is on its way");
        assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
        assert_eq!(rig.flow.cut(&[3]), Some(vec![done]));
    }
}

#[test]
fn outputs_of_several_ways_leave_together_so_that_a_slow_one_spoils_no_cut() {
    let (mut rig, _) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM, Receiver::Sink(1)])
        .kafka_sink("out")
        .kafka_sink("copy")
        .transform(Scope::Record, &[OUT], |batch, out| {
            out.emit(batch.records[0]);
            Consumed::ok(1)
        });
    rig.flow.delivers_together = true;
    rig.push(0, &values(&["a", "b"]), false).expect("pushed");
    let _ = rig.flow.advance(&mut rig.counters).expect("a call");
    assert_eq!(rig.flow.cut(&[2]), Some(vec![0]), "nothing has left");
    rig.run().expect("the rest");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.flow.cut(&[2]), Some(vec![2]));
    assert_eq!(rig.kafka.delivered("copy"), ["a", "b"]);
}

#[test]
fn what_is_rewound_is_nobodys_and_can_be_read_again() {
    let mut rig = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[OUT, Receiver::Sink(1)])
        .kafka_sink("out")
        .plugin_sink();
    rig.push(0, &values(&["a", "b"]), false).expect("pushed");
    rig.run().expect("written");
    assert!(!rig.flow.sinks_accept(), "two verdicts are open");
    rig.flow.rewind().expect("rewound");
    assert_eq!(rig.flow.pending(), 0);
    rig.kafka.0.borrow_mut().in_flight.clear();
    rig.flow.poll_sinks(&mut rig.counters).expect("stored");
    assert!(rig.flow.sinks_accept());
    rig.push(0, &values(&["a", "b"]), false)
        .expect("read again");
    rig.run().expect("written");
    rig.flow.poll_sinks(&mut rig.counters).expect("stored");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.flow.cut(&[2]), Some(vec![2]));
}

#[test]
fn progress_begins_the_retry_timeout_anew() {
    let (mut rig, _) = Rig::new(Policy::Skip, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Record, &[OUT], |batch, out| {
            // One record a call, then it asks for a rest.
            out.emit(batch.records[0]);
            stopped(1, error_kind::RETRYABLE)
        });
    rig.push(0, &values(&["a", "b", "c"]), false)
        .expect("pushed");
    rig.flow.on_error.retry_timeout = Some(Duration::from_secs(3_600));
    assert_eq!(
        rig.flow.advance(&mut rig.counters).ok(),
        Some(Advance::Yielded)
    );
    // As if it had gone on like this for hours.
    let retry = rig.flow.transforms[0].retry.as_mut().expect("a retry");
    let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(7_200)) else {
        return;
    };
    (retry.since, retry.at) = (long_ago, long_ago);
    assert_eq!(
        rig.flow.advance(&mut rig.counters).ok(),
        Some(Advance::Yielded)
    );
    assert_eq!(rig.flow.transforms[0].input.len(), 1, "nothing was skipped");
    let retry = rig.flow.transforms[0].retry.as_ref().expect("a retry");
    assert_eq!(retry.tries, 1);
}

#[test]
fn a_poisoned_record_is_found_in_the_middle_of_a_batch() {
    let (mut rig, _) = Rig::new(Policy::DeadLetter, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Partition, &[OUT], |batch, out| {
            match batch.records.iter().any(|record| text(record) == "poison") {
                true => stopped(0, error_kind::PANIC),
                false => pass(batch, out),
            }
        });
    let poison = Poison::Record {
        node: Some("transform_0".into()),
        topic: "t".into(),
        partition: 0,
        offset: 2,
    };
    let refusal = refuse::panic_refusal(&rig.flow.transforms[0], "boom");
    rig.flow.poison.insert(poison, refusal);
    rig.push(0, &values(&["a", "b", "poison", "c"]), false)
        .expect("pushed");
    rig.run().expect("the record is known");
    assert_eq!(rig.flow.flush_outbox(Duration::ZERO).ok(), Some(true));
    assert_eq!(rig.kafka.delivered("out"), ["a", "b", "c"]);
    assert_eq!(rig.kafka.delivered(rig::DEAD_LETTERS), ["poison"]);
}

#[test]
fn partitions_that_come_back_meet_an_instance_whose_watermark_may_start_lower() {
    let (mut rig, script) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Pipeline, &[OUT], pass);
    let pass_all = |rig: &mut Rig, at_ms| {
        let passed = rig.flow.pass_watermark(SLOT_ALL, at_ms, &mut rig.counters);
        passed.expect("passed");
    };
    pass_all(&mut rig, 1_000);
    pass_all(&mut rig, 900);
    rig.flow.release(0).expect("released");
    rig.flow.renew().expect("made anew");
    pass_all(&mut rig, 500);
    let log = script.log.lock().expect("log").clone();
    assert_eq!(log, ["made", "watermark 1000", "made", "watermark 500"]);
}

#[test]
fn a_sink_may_take_some_records_and_ask_for_a_rest() {
    let mut rig = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[OUT])
        .plugin_sink();
    {
        let mut store = rig.store.lock().expect("store");
        (store.room, store.is_retrying) = (2, true);
    }
    rig.push(0, &values(&["a", "b", "c"]), false)
        .expect("pushed");
    rig.run().expect("written");
    rig.flow
        .poll_sinks(&mut rig.counters)
        .expect("its verdicts are known");
    assert_eq!(rig.committable(3), 2);
    assert!(rig.flow.waits_for_sink());
}

#[test]
fn a_rejection_that_ends_the_host_stays_open_beside_what_is_stored() {
    let mut rig = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[OUT])
        .plugin_sink();
    rig.store.lock().expect("store").rejects = Some(|value| value == "bad");
    rig.push(0, &values(&["a", "bad", "b", "bad"]), false)
        .expect("pushed");
    rig.run().expect("written");
    let polled = rig.flow.poll_sinks(&mut rig.counters);
    assert!(matches!(polled, Err(FlowError::Refused { .. })));
    assert_eq!(rig.committable(4), 1);
    assert_eq!(rig.flow.pending(), 2, "both bad ones are open");
}

#[test]
fn timers_are_bounded() {
    let (mut rig, _) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .transform(Scope::Partition, &[OUT], |batch, out| {
            for id in 0..=TIMERS_MAX as u64 {
                let (slot, at_ms) = (0, i64::MAX);
                out.request_timer(TimerRequest { slot, id, at_ms });
            }
            Consumed::ok(batch.records.len())
        });
    rig.push(0, &values(&["a"]), false).expect("pushed");
    assert!(matches!(rig.run(), Err(FlowError::Broken { .. })));
}

/// I9: what a transform makes many of waits before the transform, not behind it.
#[test]
fn a_full_input_holds_back_the_nodes_above_it() {
    const EACH: usize = 100;
    let (mut rig, _) = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[TRANSFORM])
        .plugin_sink()
        .transform(Scope::Record, &[OUT], |batch, out| {
            if let Some(record) = batch.records.first() {
                (0..EACH).for_each(|_| out.emit(*record));
            }
            Consumed::ok(1)
        });
    rig.store.lock().expect("store").room = 0;
    let records = 2 * INPUT_RECORDS_MAX / EACH;
    rig.push(0, &vec!["a".to_owned(); records], false)
        .expect("pushed");
    rig.run().expect("moved on");
    let waiting = rig.flow.waiting(OUT);
    let full = INPUT_RECORDS_MAX..INPUT_RECORDS_MAX + EACH;
    assert!(full.contains(&waiting), "{waiting} wait for the sink");
    assert!(!rig.flow.transforms_are_idle());
    assert!(!rig.flow.wants_input(), "the rest waits for the transform");
    rig.store.lock().expect("store").room = usize::MAX;
    rig.run().expect("moved on");
    rig.flow.poll_sinks(&mut rig.counters).expect("stored");
    assert_eq!(
        rig.store.lock().expect("store").stored.len(),
        records * EACH
    );
    assert!(rig.flow.wants_input());
    assert_eq!(rig.committable(records as i64), records as i64);
}

/// I9: nothing is read while the ledger is full, settled records behind an unsettled one included.
#[test]
fn a_full_ledger_ends_the_reading() {
    let mut rig = Rig::new(Policy::Fail, FakeKafka::new())
        .with_receivers(&[OUT])
        .kafka_sink("out");
    let ledger = &mut rig.flow.ledger;
    let oldest = ledger.open_source(0, 0..1, 1, false);
    let rest = ledger.open_source(0, 1..UNSETTLED_RECORDS_MAX as i64 - 1, 1, false);
    (rest..ledger.next_seq()).for_each(|seq| ledger.done(seq));
    assert!(rig.flow.wants_input(), "there is room for one");
    let ledger = &mut rig.flow.ledger;
    let end = UNSETTLED_RECORDS_MAX as i64;
    let last = ledger.open_source(0, end - 1..end, 1, false);
    ledger.done(last);
    assert_eq!(ledger.pending(), 1);
    assert!(!rig.flow.wants_input());
    rig.flow.ledger.done(oldest);
    assert!(rig.flow.wants_input());
}
