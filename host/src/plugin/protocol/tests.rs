//! Plugins that speak the ABI without the SDK, and break its rules.

use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use weir_plugin_api::abi_stable::sabi_trait::TD_Opaque;
use weir_plugin_api::abi_stable::std_types::{RResult, RSlice, RVec};
use weir_plugin_api::host::{
    Arena, CallScope, Collected, OwnedBatch, RecordFields, collect, collect_from,
};
use weir_plugin_api::{
    Batch, Bytes, Consumed, Failure, Output, PluginError, Record, SEQ_DERIVED, SLOT_ALL, Settled,
    Settlements, SinkObject, SinkObject_TO, SlotName, StatePart, StatePartRef, TimerRequest,
    TransformObject, TransformObject_TO, error_kind,
};

use super::super::instance::{CallErrorKind, Processed, SinkInstance, TransformInstance};

/// Answers what it is told to.
#[derive(Clone, Default)]
struct Scripted {
    consumed: usize,
    /// (seq, slot) of each output.
    outputs: Vec<(u64, u32)>,
    /// seq of each failure.
    failures: Vec<u64>,
    /// slot of each timer.
    timers: Vec<u32>,
    /// Kind of the error.
    error: Option<u32>,
    /// Parts that `snapshot` names.
    parts: Vec<u64>,
    /// What `flush` answers.
    number: i64,
    /// Verdicts of a sink.
    verdicts: Vec<u32>,
}

impl Scripted {
    fn error(&self) -> Option<PluginError> {
        self.error.map(|kind| PluginError {
            kind,
            retry_after_ms: 250,
            code: "scripted.error".into(),
            message: "as told".into(),
        })
    }

    fn answer<T>(&self, answer: T) -> RResult<T, PluginError> {
        self.error().map_or(Ok(answer), Err).into()
    }

    fn fill(&self, out: &mut Output<'_>) {
        for (seq, slot) in &self.outputs {
            out.emit(Record {
                key: Bytes::NULL,
                value: Bytes::NULL,
                headers: RSlice::EMPTY,
                timestamp_ms: 0,
                offset: 0,
                seq: *seq,
                slot: *slot,
                timestamp_type: 0,
            });
        }
        for seq in &self.failures {
            out.fail(Failure {
                seq: *seq,
                code: "scripted.failure".into(),
                message: "as told".into(),
                detail: "".into(),
            });
        }
        for slot in &self.timers {
            out.request_timer(TimerRequest {
                slot: *slot,
                id: 1,
                at_ms: 1,
            });
        }
    }

    fn settle(&self, out: &mut Settlements) {
        for verdict in &self.verdicts {
            out.settled.push(Settled {
                seq: 1,
                verdict: *verdict,
            });
        }
    }
}

impl TransformObject for Scripted {
    fn process<'b>(&mut self, _batch: &Batch<'b>, out: &mut Output<'b>) -> Consumed {
        self.fill(out);
        Consumed {
            records: self.consumed,
            error: self.error().into(),
        }
    }

    fn on_watermark<'b>(
        &mut self,
        _batch: &Batch<'b>,
        _slot: u32,
        _watermark_ms: i64,
        out: &mut Output<'b>,
    ) -> RResult<(), PluginError> {
        self.fill(out);
        self.answer(())
    }

    fn on_timer<'b>(
        &mut self,
        _batch: &Batch<'b>,
        _slot: u32,
        _id: u64,
        _now_ms: i64,
        out: &mut Output<'b>,
    ) -> RResult<(), PluginError> {
        self.fill(out);
        self.answer(())
    }

    fn snapshot(&mut self, _slot: u32, out: &mut RVec<StatePart>) -> RResult<u32, PluginError> {
        out.extend(self.parts.iter().map(|id| StatePart {
            id: *id,
            is_unchanged: true,
            bytes: RVec::new(),
        }));
        self.answer(1)
    }

    fn restore(
        &mut self,
        _: u32,
        _: u32,
        _: RSlice<'_, StatePartRef<'_>>,
    ) -> RResult<(), PluginError> {
        self.answer(())
    }

    fn release(&mut self, _slot: u32) -> RResult<(), PluginError> {
        self.answer(())
    }

    fn stop(&mut self) -> RResult<(), PluginError> {
        self.answer(())
    }
}

impl SinkObject for Scripted {
    fn write<'b>(&mut self, _batch: &Batch<'b>, out: &mut Settlements) -> Consumed {
        self.settle(out);
        Consumed {
            records: self.consumed,
            error: self.error().into(),
        }
    }

    fn poll(&mut self, out: &mut Settlements) -> RResult<(), PluginError> {
        self.settle(out);
        self.answer(())
    }

    fn flush(&mut self, _wait_ms: u64, out: &mut Settlements) -> RResult<u32, PluginError> {
        self.settle(out);
        self.answer(u32::try_from(self.number).unwrap_or(u32::MAX))
    }

    fn stop(&mut self) -> RResult<(), PluginError> {
        self.answer(())
    }
}

fn transform(script: Scripted) -> TransformInstance {
    TransformInstance::new(
        "scripted",
        TransformObject_TO::from_value(script, TD_Opaque),
    )
}

fn sink(script: Scripted) -> SinkInstance {
    SinkInstance::new("scripted", SinkObject_TO::from_value(script, TD_Opaque))
}

/// The task has slots 0 and 1.
fn with_scope<R>(run: impl FnOnce(CallScope<'_>) -> R) -> R {
    let slots = [0, 1].map(|partition| SlotName {
        source: "source".into(),
        topic: "topic".into(),
        partition,
        partition_count: 2,
    });
    let yield_flag = AtomicBool::new(false);
    run(CallScope {
        slots: &slots,
        now_ms: 0,
        yield_flag: &yield_flag,
    })
}

fn process(seqs: &[u64], script: Scripted) -> (Processed, Collected) {
    let fields = seqs.iter().map(|seq| RecordFields {
        key: None,
        value: None,
        headers: &[],
        timestamp_ms: 0,
        timestamp_type: 0,
        offset: 0,
        slot: 0,
        seq: *seq,
    });
    let batch = Rc::new(OwnedBatch::copy_of(fields));
    let mut instance = transform(script);
    with_scope(|scope| {
        collect(
            &batch,
            0..batch.len(),
            scope,
            Arena::default(),
            |batch, out| instance.process(batch, out),
        )
    })
}

/// The code of the rule that a script breaks in `process`, if any.
fn broken(seqs: &[u64], script: Scripted) -> Option<String> {
    let (processed, _) = process(seqs, script);
    let error = processed.error?;
    assert_eq!(
        (error.kind, processed.consumed),
        (CallErrorKind::Protocol, 0)
    );
    assert!(
        error
            .message
            .starts_with("plugin `scripted` broke the plugin protocol: it "),
        "{error}"
    );
    error
        .code
        .strip_prefix("plugin.protocol.")
        .map(str::to_owned)
}

fn outputs(consumed: usize, seqs: &[u64]) -> Scripted {
    Scripted {
        consumed,
        outputs: seqs.iter().map(|seq| (*seq, 0)).collect(),
        ..Scripted::default()
    }
}

#[test]
fn a_transform_consumes_something_and_not_more_than_it_was_given() {
    assert_eq!(broken(&[5, 6], outputs(2, &[5, 6])), None);
    assert_eq!(
        broken(&[5, 6], outputs(3, &[])).as_deref(),
        Some("consumed")
    );
    assert_eq!(
        broken(&[5, 6], outputs(usize::MAX, &[])).as_deref(),
        Some("consumed")
    );
    assert_eq!(
        broken(&[5, 6], outputs(0, &[])).as_deref(),
        Some("no_progress")
    );
    assert_eq!(broken(&[], outputs(0, &[])), None);
    let waits = Scripted {
        error: Some(error_kind::RETRYABLE),
        ..Scripted::default()
    };
    let error = process(&[5], waits).0.error.expect("an error");
    assert_eq!(error.kind, CallErrorKind::Retryable);
    assert_eq!(error.retry_after.map(|wait| wait.as_millis()), Some(250));
    assert_eq!(error.message, "plugin `scripted` failed: as told");
    // What a newer side may answer counts as fatal.
    let unknown = Scripted {
        error: Some(77),
        ..Scripted::default()
    };
    let error = process(&[5], unknown).0.error.expect("an error");
    assert_eq!(error.kind, CallErrorKind::Fatal);
}

#[test]
fn an_output_belongs_to_a_consumed_record_or_to_none() {
    let strange = Some("output_seq".to_owned());
    // In order, repeated, filtered, derived.
    assert_eq!(
        broken(&[3, 5, 9], outputs(3, &[3, 3, 9, SEQ_DERIVED, 9])),
        None
    );
    // Out of order, and a batch whose seq does not rise: the output of a plugin before.
    assert_eq!(broken(&[3, 5, 9], outputs(3, &[9, 3, 5])), None);
    assert_eq!(broken(&[9, 3, 3, 0, 5], outputs(5, &[5, 9, 0, 3])), None);
    // Between the seqs, before, behind.
    for seq in [4, 1, 10, u64::MAX] {
        assert_eq!(broken(&[3, 5, 9], outputs(3, &[3, seq])), strange, "{seq}");
        assert_eq!(
            broken(&[3, 5, 9], outputs(3, &[9, seq, 3])),
            strange,
            "{seq}"
        );
    }
    // Given, but not consumed.
    assert_eq!(broken(&[3, 5, 9], outputs(2, &[3, 5, 9])), strange);
    assert_eq!(broken(&[9, 5, 3], outputs(2, &[3])), strange);
}

#[test]
fn a_failure_belongs_to_a_consumed_record() {
    let failing = |failures: &[u64]| Scripted {
        consumed: 2,
        failures: failures.to_vec(),
        ..Scripted::default()
    };
    assert_eq!(broken(&[3, 5, 9], failing(&[5, 3])), None);
    assert_eq!(broken(&[0, 5, 9], failing(&[0])), None);
    for seq in [9, 4, SEQ_DERIVED] {
        assert_eq!(
            broken(&[3, 5, 9], failing(&[seq])).as_deref(),
            Some("failure_seq"),
            "{seq}"
        );
    }
}

#[test]
fn a_slot_is_one_of_the_tasks() {
    let of_slot = |seq, slot| Scripted {
        consumed: 1,
        outputs: vec![(seq, slot)],
        ..Scripted::default()
    };
    let strange = Some("slot".to_owned());
    assert_eq!(broken(&[3], of_slot(3, 1)), None);
    assert_eq!(broken(&[3], of_slot(3, 2)), strange);
    assert_eq!(broken(&[3], of_slot(SEQ_DERIVED, SLOT_ALL)), None);
    assert_eq!(broken(&[3], of_slot(3, SLOT_ALL)), strange);
    let timer = |slot| Scripted {
        consumed: 1,
        timers: vec![slot],
        ..Scripted::default()
    };
    assert_eq!(broken(&[3], timer(1)), None);
    assert_eq!(broken(&[3], timer(SLOT_ALL)), None);
    assert_eq!(broken(&[3], timer(2)), strange);
}

#[test]
fn event_time_gives_derived_records_only() {
    let cases = [
        (outputs(0, &[SEQ_DERIVED]), None),
        (outputs(0, &[3]), Some("plugin.protocol.output_seq")),
        (
            Scripted {
                failures: vec![3],
                ..Scripted::default()
            },
            Some("plugin.protocol.failure_seq"),
        ),
        (
            Scripted {
                timers: vec![7],
                ..Scripted::default()
            },
            Some("plugin.protocol.slot"),
        ),
    ];
    for (script, code) in cases {
        let mut instance = transform(script);
        for watermark in [true, false] {
            let (answer, _) = with_scope(|scope| {
                collect_from(None, scope, Arena::default(), |batch, out| {
                    if watermark {
                        instance.on_watermark(batch, 0, 1, out)
                    } else {
                        instance.on_timer(batch, 0, 1, 1, out)
                    }
                })
            });
            assert_eq!(answer.err().map(|error| error.code).as_deref(), code);
        }
    }
}

#[test]
fn a_snapshot_names_each_part_once() {
    let snapshot = |parts: &[u64]| {
        let script = Scripted {
            parts: parts.to_vec(),
            ..Scripted::default()
        };
        let answer = transform(script).snapshot(0);
        answer
            .map(|snapshot| snapshot.parts.len())
            .map_err(|error| error.code)
    };
    assert_eq!(snapshot(&[2, 1]), Ok(2));
    assert_eq!(
        snapshot(&[1, 2, 1]),
        Err("plugin.protocol.snapshot".to_owned())
    );
}

#[test]
fn a_sink_accepts_no_more_than_it_was_given_and_gives_known_verdicts() {
    let yield_flag = AtomicBool::new(false);
    let input = OwnedBatch::copy_of([]);
    let batch = Batch::new(input.records(), &[], 0, &yield_flag);
    let write = |script| {
        let mut out = Settlements::default();
        sink(script)
            .write(&batch, &mut out)
            .error
            .map(|error| error.code)
    };
    let verdicts = |verdicts: &[u32]| Scripted {
        verdicts: verdicts.to_vec(),
        ..Scripted::default()
    };
    assert_eq!(write(verdicts(&[1, 2])), None);
    assert_eq!(
        write(verdicts(&[1, 3])).as_deref(),
        Some("plugin.protocol.verdict")
    );
    assert_eq!(
        write(outputs(1, &[])).as_deref(),
        Some("plugin.protocol.consumed")
    );

    let mut out = Settlements::default();
    let error = sink(verdicts(&[0])).poll(&mut out).expect_err("an error");
    assert_eq!(error.code, "plugin.protocol.verdict");
    // What stood there before the call is not this call's.
    assert!(sink(verdicts(&[1])).poll(&mut out).is_ok());
    let flush = |number| {
        let script = Scripted {
            number,
            ..Scripted::default()
        };
        let mut out = Settlements::default();
        sink(script).flush(0, &mut out).map_err(|error| error.code)
    };
    assert_eq!(flush(0), Ok(true));
    assert_eq!(flush(1), Ok(false));
    assert_eq!(flush(2), Err("plugin.protocol.flush".to_owned()));
}
