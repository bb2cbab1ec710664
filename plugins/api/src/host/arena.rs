/// Size of an ordinary chunk: 1,000 reduced records of about 100 bytes fit two. Larger allocations get their own.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks kept by [`Arena::reset`] (4 MiB); what a rare huge batch needed beyond is given back.
const CHUNKS_KEPT_MAX: usize = 64;

/// Bump memory of one batch's outputs. Addresses stay valid until `reset` or drop.
#[derive(Default)]
pub struct Arena {
    /// In use, newest last. `u64` for the alignment of headers.
    used: Vec<Box<[u64]>>,
    free: Vec<Box<[u64]>>,
}

impl Arena {
    /// Bytes in chunks that are in use.
    pub fn used_bytes(&self) -> usize {
        self.used.iter().map(|chunk| chunk.len() * 8).sum()
    }

    /// Forgets all contents and keeps ordinary chunks for the next batch. Chunks are zeroed once, not again: a plugin
    /// may see bytes of an earlier batch of this process.
    pub(crate) fn reset(&mut self) {
        for chunk in self.used.drain(..) {
            if chunk.len() * 8 == CHUNK_BYTES && self.free.len() < CHUNKS_KEPT_MAX {
                self.free.push(chunk);
            }
        }
    }

    fn grow(&mut self, bytes: usize) -> &mut [u64] {
        let chunk = if bytes <= CHUNK_BYTES {
            self.free
                .pop()
                .unwrap_or_else(|| vec![0; CHUNK_BYTES / 8].into())
        } else {
            vec![0; bytes.div_ceil(8)].into()
        };
        let newest = self.used.len();
        self.used.push(chunk);
        &mut self.used[newest]
    }
}

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
    let range = arena.grow(bytes).as_mut_ptr_range();
    *cur = range.start.cast();
    *end = range.end.cast();
}
