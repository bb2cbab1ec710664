use std::any::Any;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use abi_stable::std_types::RVec;

use super::Arena;
use crate::{Batch, Bytes, Failure, Header, Output, Record, SEQ_DERIVED, SlotName, TimerRequest};

/// Records together with everything they borrow from: the arena of the call that made them, the batch they were made
/// from, or a client library's messages. Shared by `Rc` inside one task.
pub struct OwnedBatch {
    /// `'static` stands for "as long as this batch": no method hands it out so.
    records: RVec<Record<'static>>,
    arena: Arena,
    /// Dropped after the records by field order, which does not matter: records have no destructor.
    _origin: Option<Box<dyn Any>>,
}

/// Name and value of a header; `None` is Kafka's null.
pub type HeaderFields<'a> = (&'a str, Option<&'a [u8]>);

/// Owned or borrowed fields of a record to copy into a batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordFields<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [HeaderFields<'a>],
    pub timestamp_ms: i64,
    pub timestamp_type: u32,
    pub offset: i64,
    pub slot: u32,
    pub seq: u64,
}

/// What a call left in its output.
pub struct Collected {
    pub batch: OwnedBatch,
    pub failures: RVec<Failure>,
    pub timers: RVec<TimerRequest>,
}

impl OwnedBatch {
    /// # Safety
    /// Everything that `records` borrow is static, or lives in `arena` or `origin`, at an address that does not change
    /// when these are moved.
    pub unsafe fn from_parts(
        records: RVec<Record<'static>>,
        arena: Arena,
        origin: Box<dyn Any>,
    ) -> Self {
        OwnedBatch {
            records,
            arena,
            _origin: Some(origin),
        }
    }

    /// Copies the given fields.
    pub fn copy_of<'a>(fields: impl IntoIterator<Item = RecordFields<'a>>) -> Self {
        let collect_all = |out: &mut Output<'_>| {
            for fields in fields {
                copy_record(fields, out);
            }
        };
        collect_from(None, CallScope::NONE, Arena::default(), |_, out| {
            collect_all(out)
        })
        .1
        .batch
    }

    pub fn records(&self) -> &[Record<'_>] {
        &self.records
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives the derived records (`SEQ_DERIVED`) their numbers, rising from `first`.
    pub fn number_derived(&mut self, first: u64) {
        let derived = self
            .records
            .iter_mut()
            .filter(|record| record.seq == SEQ_DERIVED);
        for (record, seq) in derived.zip(first..) {
            record.seq = seq;
        }
    }

    /// Drops the records that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&Record<'_>) -> bool) {
        self.records.retain(|record| keep(record));
    }

    /// Gives the arena back for the next batch, when nothing else shares this one.
    pub fn recycle(mut self) -> Arena {
        self.records.clear();
        let mut arena = std::mem::take(&mut self.arena);
        arena.reset();
        arena
    }
}

fn copy_record(fields: RecordFields<'_>, out: &mut Output<'_>) {
    let headers: Vec<Header<'_>> = fields
        .headers
        .iter()
        .map(|(name, value)| Header {
            name: out.copy_str(name),
            value: Bytes::from_option(value.map(|value| out.copy(value))),
        })
        .collect();
    let record = Record {
        key: Bytes::from_option(fields.key.map(|key| out.copy(key))),
        value: Bytes::from_option(fields.value.map(|value| out.copy(value))),
        headers: out.copy_headers(&headers),
        timestamp_ms: fields.timestamp_ms,
        offset: fields.offset,
        seq: fields.seq,
        slot: fields.slot,
        timestamp_type: fields.timestamp_type,
    };
    out.emit(record);
}

/// What every call is given besides records.
#[derive(Clone, Copy)]
pub struct CallScope<'a> {
    /// Names are static: a plugin may put them into its outputs.
    pub slots: &'a [SlotName<'static>],
    /// Wall clock, unix milliseconds.
    pub now_ms: i64,
    /// See [`Batch::yield_requested`].
    pub yield_flag: &'a AtomicBool,
}

static NEVER_YIELD: AtomicBool = AtomicBool::new(false);

impl CallScope<'static> {
    /// No slots, no clock, no limit: for copies that no plugin makes.
    pub const NONE: CallScope<'static> = CallScope {
        slots: &[],
        now_ms: 0,
        yield_flag: &NEVER_YIELD,
    };
}

/// Runs `call` over `range` of `input` and keeps what it emits, together with `input`, which its records may borrow.
pub fn collect<R>(
    input: &Rc<OwnedBatch>,
    range: Range<usize>,
    scope: CallScope<'_>,
    arena: Arena,
    call: impl for<'b> FnOnce(&Batch<'b>, &mut Output<'b>) -> R,
) -> (R, Collected) {
    collect_from(Some((input, range)), scope, arena, call)
}

/// As [`collect`]; without an input the batch holds no records.
pub fn collect_from<R>(
    input: Option<(&Rc<OwnedBatch>, Range<usize>)>,
    scope: CallScope<'_>,
    mut arena: Arena,
    call: impl for<'b> FnOnce(&Batch<'b>, &mut Output<'b>) -> R,
) -> (R, Collected) {
    let slice = match &input {
        Some((batch, range)) => batch.records().get(range.clone()).unwrap_or_default(),
        None => &[],
    };
    let batch = Batch::new(slice, scope.slots, scope.now_ms, scope.yield_flag);
    let mut out = Output::new(RVec::with_capacity(slice.len()), &mut arena);
    let answer = call(&batch, &mut out);
    let (records, failures, timers) = out.into_parts();
    // SAFETY: `call` is generic over `'b`, so each emitted record borrows from `slice` (kept alive by the `Rc` that goes
    // into `_origin`), from a slot's name (static), from the arena (its chunks are boxed: they do not move with it, and
    // they go into the batch), or from statics. Only the lifetime changes, and `records()` ties it to the batch again.
    let records =
        unsafe { std::mem::transmute::<RVec<Record<'_>>, RVec<Record<'static>>>(records) };
    let origin = input.map(|(batch, _)| Box::new(Rc::clone(batch)) as Box<dyn Any>);
    (
        answer,
        Collected {
            batch: OwnedBatch {
                records,
                arena,
                _origin: origin,
            },
            failures,
            timers,
        },
    )
}
