use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr, RString, RVec};

use crate::host::Arena;
use crate::{Header, Record};

/// A record that the plugin refuses; the pipeline's `on_error` decides what becomes of it.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Failure {
    /// `Record::seq` of the refused input.
    pub seq: u64,
    /// Stable dotted code, `plugin.reason`.
    pub code: RString,
    /// One sentence that names the field or the limit.
    pub message: RString,
    /// The chain of causes, or empty.
    pub detail: RString,
}

/// Asks for `on_timer(slot, id, ..)` once the host's wall clock has reached `at_ms`. A second request with the same
/// slot and id replaces the first. Timers are not persisted: `restore` asks for them again, `release` drops them.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerRequest {
    pub slot: u32,
    pub id: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A position in an [`Output`] to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    records: usize,
    failures: usize,
    timers: usize,
}

/// Host-owned, filled by the plugin. The lifetime `'b` lets an emitted record borrow only from the input batch, from
/// this output's arena, or from statics (libraries are never unloaded).
#[repr(C)]
#[derive(StableAbi)]
pub struct Output<'b> {
    records: RVec<Record<'b>>,
    failures: RVec<Failure>,
    timers: RVec<TimerRequest>,
    /// Free bytes of the arena's newest chunk: `cur..end`.
    cur: *mut u8,
    end: *mut u8,
    arena: *mut (),
    grow: unsafe extern "C" fn(*mut (), usize, &mut *mut u8, &mut *mut u8),
}

/// Alignment of every allocation: enough for [`Header`], the only non-byte type allocated.
const ALIGN: usize = 8;
const _: () = assert!(align_of::<Header<'static>>() <= ALIGN);

impl<'b> Output<'b> {
    /// `records` lends its capacity. The arena must outlive every use of `'b`: only `host` builds outputs.
    pub(crate) fn new(records: RVec<Record<'b>>, arena: &mut Arena) -> Self {
        Output {
            records,
            failures: RVec::new(),
            timers: RVec::new(),
            cur: std::ptr::null_mut(),
            end: std::ptr::null_mut(),
            arena: std::ptr::from_mut(arena).cast(),
            grow: crate::host::arena_grow,
        }
    }

    pub(crate) fn into_parts(self) -> (RVec<Record<'b>>, RVec<Failure>, RVec<TimerRequest>) {
        (self.records, self.failures, self.timers)
    }

    #[inline]
    pub fn emit(&mut self, record: Record<'b>) {
        self.records.push(record);
    }

    /// Room for `len` bytes, zeroed or stale but initialised.
    #[inline]
    pub fn alloc(&mut self, len: usize) -> &'b mut [u8] {
        let rounded = len.next_multiple_of(ALIGN);
        if (self.end as usize) - (self.cur as usize) < rounded {
            // SAFETY: `arena` and `grow` were paired by `new`, which borrowed the arena for as long as the host lets
            // this output live; `grow` leaves `cur..end` as at least `rounded` initialised bytes that nobody else holds.
            unsafe { (self.grow)(self.arena, rounded, &mut self.cur, &mut self.end) };
        }
        let start = self.cur;
        // SAFETY: `cur..end` holds at least `rounded` bytes (checked or just grown), so both stay inside one chunk; the
        // range is handed out once since `cur` moves past it, and chunks live until the host drops everything of `'b`.
        unsafe {
            self.cur = self.cur.add(rounded);
            std::slice::from_raw_parts_mut(start, len)
        }
    }

    #[inline]
    pub fn copy(&mut self, bytes: &[u8]) -> &'b [u8] {
        let copy = self.alloc(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    pub fn copy_str(&mut self, text: &str) -> RStr<'b> {
        let bytes = self.copy(text.as_bytes());
        // SAFETY: the bytes were just copied from a `str`.
        RStr::from(unsafe { std::str::from_utf8_unchecked(bytes) })
    }

    pub fn copy_headers(&mut self, headers: &[Header<'b>]) -> RSlice<'b, Header<'b>> {
        if headers.is_empty() {
            return RSlice::EMPTY;
        }
        let bytes = self.alloc(size_of_val(headers));
        let target = bytes.as_mut_ptr().cast::<Header<'b>>();
        // SAFETY: `alloc` gave exactly the bytes of these headers, aligned to `ALIGN` (chunks start aligned and sizes are
        // multiples of it); `Header` is `Copy`; source and target do not overlap since the target is fresh.
        unsafe {
            std::ptr::copy_nonoverlapping(headers.as_ptr(), target, headers.len());
            RSlice::from_raw_parts(target, headers.len())
        }
    }

    pub fn fail(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    pub fn request_timer(&mut self, timer: TimerRequest) {
        self.timers.push(timer);
    }

    pub fn mark(&self) -> Mark {
        Mark {
            records: self.records.len(),
            failures: self.failures.len(),
            timers: self.timers.len(),
        }
    }

    /// Takes back what was emitted, refused and requested since `mark`.
    pub fn roll_back(&mut self, mark: Mark) {
        self.records.truncate(mark.records);
        self.failures.truncate(mark.failures);
        self.timers.truncate(mark.timers);
    }

    pub fn emitted(&self) -> &[Record<'b>] {
        &self.records
    }
}
