//! Outputs, arenas and batches: what stays where, for how long, and what an arena refuses.

use std::rc::Rc;

use weir_plugin_api::host::{
    ARENA_BYTES_MAX, Arena, CHUNK_BYTES, CallScope, Collected, OwnedBatch, RecordFields, collect,
    collect_from,
};
use weir_plugin_api::{
    Batch, Bytes, HostHandle, Output, Record, SEQ_DERIVED, SinkBox, TransformBox,
};

fn without_input<R>(
    arena: Arena,
    call: impl for<'b> FnOnce(&Batch<'b>, &mut Output<'b>) -> R,
) -> (R, Collected) {
    collect_from(None, CallScope::NONE, arena, call)
}

fn fields<'a>(
    seq: u64,
    value: &'a [u8],
    headers: &'a [(&'a str, Option<&'a [u8]>)],
) -> RecordFields<'a> {
    RecordFields {
        key: Some(b""),
        value: Some(value),
        headers,
        timestamp_ms: 5,
        timestamp_type: 1,
        offset: 7,
        slot: 0,
        seq,
    }
}

#[test]
fn instances_move_between_threads_and_handles_are_shared() {
    fn moves<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    moves::<TransformBox>();
    moves::<SinkBox>();
    is_shared::<HostHandle>();
}

#[test]
fn an_empty_copy_is_no_null_wherever_the_arena_stands() {
    let ((), _) = without_input(Arena::default(), |_, out| {
        // Before the first chunk, in it, and behind its last byte.
        for len in [0, 8, CHUNK_BYTES - 8, 0] {
            assert_eq!(Bytes::new(out.copy(b"")).get(), Some(&b""[..]));
            assert_eq!(out.copy_str("").as_str(), "");
            assert_eq!(out.alloc(len).len(), len);
        }
        assert_eq!(Bytes::new(out.copy(b"")).get(), Some(&b""[..]));
    });
    assert_eq!(Bytes::NULL.get(), None);
    let batch = OwnedBatch::copy_of([fields(1, b"", &[("", Some(b"")), ("n", None)])]);
    let record = batch.records()[0];
    assert_eq!(
        (record.key.get(), record.value.get()),
        (Some(&b""[..]), Some(&b""[..]))
    );
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| header.value.get())
        .collect();
    assert_eq!(headers, [Some(&b""[..]), None]);
}

#[test]
fn allocations_do_not_overlap_and_headers_are_aligned() {
    let (pieces, _) = without_input(Arena::default(), |_, out| {
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for round in 0..3_000_usize {
            // Of every size up to two chunks, so that chunks fill up at every offset.
            let len = round * 41 % (2 * CHUNK_BYTES);
            let bytes = out.alloc(len);
            bytes.fill(round as u8);
            pieces.push((bytes.as_ptr() as usize, len));
            let name = out.copy_str("name");
            let header = weir_plugin_api::Header {
                name,
                value: Bytes::new(bytes),
            };
            let headers = out.copy_headers(&[header]);
            assert_eq!(headers.as_slice().as_ptr() as usize % 8, 0);
            assert_eq!(headers[0].name.as_str(), "name");
            assert!(
                headers[0]
                    .value
                    .get()
                    .is_some_and(|value| value.iter().all(|byte| *byte == round as u8))
            );
        }
        pieces.sort_unstable();
        pieces
    });
    let overlapping = pieces
        .windows(2)
        .find(|pair| pair[0].0 + pair[0].1 > pair[1].0);
    assert_eq!(overlapping, None);
}

#[test]
fn an_arena_refuses_what_no_output_needs_and_stays_usable() {
    for len in [
        usize::MAX,
        usize::MAX - 3,
        isize::MAX as usize,
        ARENA_BYTES_MAX + 1,
    ] {
        let ((), collected) = without_input(Arena::default(), |_, out| {
            let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                out.alloc(len);
            }));
            assert!(refused.is_err(), "{len} bytes");
            assert_eq!(out.copy(b"still here"), b"still here");
        });
        assert!(collected.batch.is_empty());
    }
}

#[test]
fn a_batch_keeps_what_its_records_borrow() {
    let first = Rc::new(OwnedBatch::copy_of([
        fields(1, b"one", &[("h", Some(b"v"))]),
        fields(2, b"two", &[]),
        fields(3, b"three", &[]),
    ]));
    let ((), second) = collect(
        &first,
        1..3,
        CallScope::NONE,
        Arena::default(),
        |batch, out| {
            assert_eq!(batch.records.len(), 2);
            for record in batch.records.as_slice() {
                // The value of the input, and a copy of it in the output's own arena.
                out.emit(*record);
                let value = out.copy(record.value.get().unwrap_or_default());
                out.emit(Record {
                    value: Bytes::new(value),
                    seq: SEQ_DERIVED,
                    ..*record
                });
            }
        },
    );
    // Only the second batch holds the first one now.
    drop(first);
    let moved = Box::new(second.batch);
    let values: Vec<&[u8]> = moved
        .records()
        .iter()
        .filter_map(|record| record.value.get())
        .collect();
    assert_eq!(values, [&b"two"[..], b"two", b"three", b"three"]);
    // Out of range is no record.
    let moved = Rc::new(*moved);
    let (len, _) = collect(
        &moved,
        3..9,
        CallScope::NONE,
        Arena::default(),
        |batch, _| batch.records.len(),
    );
    assert_eq!(len, 0);
}

#[test]
fn a_roll_back_takes_back_everything_since_the_mark() {
    let ((), collected) = without_input(Arena::default(), |_, out| {
        let input = [Record {
            key: Bytes::NULL,
            value: Bytes::NULL,
            headers: weir_plugin_api::abi_stable::std_types::RSlice::EMPTY,
            timestamp_ms: 0,
            offset: 0,
            seq: 1,
            slot: 0,
            timestamp_type: 0,
        }];
        let timer = weir_plugin_api::TimerRequest {
            slot: 0,
            id: 1,
            at_ms: 1,
        };
        out.emit(input[0]);
        out.request_timer(timer);
        let mark = out.mark();
        out.emit(input[0]);
        out.request_timer(timer);
        out.fail(weir_plugin_api::Failure {
            seq: 1,
            code: "a.b".into(),
            message: "m".into(),
            detail: "".into(),
        });
        assert_eq!(
            (
                out.emitted().len(),
                out.failures().len(),
                out.timers().len()
            ),
            (2, 1, 2)
        );
        out.roll_back(mark);
    });
    assert_eq!(
        (
            collected.batch.len(),
            collected.failures.len(),
            collected.timers.len()
        ),
        (1, 0, 1)
    );
}

#[test]
fn a_recycled_arena_serves_the_next_batch_from_the_same_memory() {
    let (first, collected) =
        without_input(Arena::default(), |_, out| out.alloc(100).as_ptr() as usize);
    let arena = collected.batch.recycle();
    assert_eq!(arena.used_bytes(), 0);
    let (second, collected) = without_input(arena, |_, out| out.alloc(100).as_ptr() as usize);
    assert_eq!(first, second);
    let arena = collected.batch.recycle();
    let ((), collected) = without_input(arena, |_, out| {
        out.alloc(3 * CHUNK_BYTES);
    });
    let arena = collected.batch.recycle();
    // What a rare huge record needed is given back: the next one is made anew, and the limit counts from zero.
    let ((), collected) = without_input(arena, |_, out| {
        out.alloc(CHUNK_BYTES);
    });
    assert_eq!(collected.batch.recycle().used_bytes(), 0);
}
