/// Size of an ordinary chunk: 1,000 reduced records of about 100 bytes fit two. Larger allocations get their own.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks kept by [`Arena::reset`] (4 MiB); what a rare huge batch needed beyond is given back.
const CHUNKS_KEPT_MAX: usize = 64;

/// Bytes that the outputs of one call may take: a little above librdkafka's largest message (1,000,000,000 bytes).
/// A plugin that asks for more has lost count; it gets a panic in its own code instead of the host's memory.
pub const ARENA_BYTES_MAX: usize = 1 << 30;

/// Bump memory of one batch's outputs. Addresses stay valid until `reset` or drop.
#[derive(Default)]
pub struct Arena {
    /// In use, newest last. `u64` for the alignment of headers.
    used: Vec<Box<[u64]>>,
    used_bytes: usize,
    free: Vec<Box<[u64]>>,
}

impl Arena {
    /// Bytes in chunks that are in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Forgets all contents and keeps ordinary chunks for the next batch. Chunks are zeroed once, not again: a plugin
    /// may see bytes of an earlier batch of this process.
    pub(crate) fn reset(&mut self) {
        for chunk in self.used.drain(..) {
            if chunk.len() * 8 == CHUNK_BYTES && self.free.len() < CHUNKS_KEPT_MAX {
                self.free.push(chunk);
            }
        }
        self.used_bytes = 0;
    }

    /// A chunk of at least `bytes`, or `None` past [`ARENA_BYTES_MAX`] or without memory.
    fn grow(&mut self, bytes: usize) -> Option<&mut [u64]> {
        let chunk_bytes = bytes.max(CHUNK_BYTES);
        let used_bytes = self.used_bytes.checked_add(chunk_bytes)?;
        if used_bytes > ARENA_BYTES_MAX {
            return None;
        }
        let recycled = if chunk_bytes == CHUNK_BYTES {
            self.free.pop()
        } else {
            None
        };
        let chunk = match recycled {
            Some(chunk) => chunk,
            None => zeroed(chunk_bytes.div_ceil(8))?,
        };
        self.used_bytes = used_bytes;
        self.used.push(chunk);
        self.used.last_mut().map(|chunk| &mut **chunk)
    }
}

fn zeroed(words: usize) -> Option<Box<[u64]>> {
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(words).ok()?;
    chunk.resize(words, 0);
    Some(chunk.into_boxed_slice())
}

/// Makes `cur..end` a fresh chunk of at least `bytes`; leaves it as it is where the arena refuses.
///
/// # Safety
/// `arena` points to the live [`Arena`] that the calling output was made with, and nobody else uses it meanwhile.
pub(crate) unsafe extern "C" fn arena_grow(
    arena: *mut (),
    bytes: usize,
    cur: &mut *mut u8,
    end: &mut *mut u8,
) {
    // SAFETY: by this function's contract.
    let arena = unsafe { &mut *arena.cast::<Arena>() };
    if let Some(chunk) = arena.grow(bytes) {
        let range = chunk.as_mut_ptr_range();
        *cur = range.start.cast();
        *end = range.end.cast();
    }
}
