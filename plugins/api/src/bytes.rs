use std::marker::PhantomData;

use abi_stable::StableAbi;

/// A borrowed byte string or Kafka's null, which is not the empty string.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Bytes<'b> {
    /// Null for Kafka's null, else valid for `len` bytes during `'b`.
    ptr: *const u8,
    len: usize,
    lifetime: PhantomData<&'b u8>,
}

impl<'b> Bytes<'b> {
    /// Kafka's null.
    pub const NULL: Bytes<'static> = Bytes {
        ptr: std::ptr::null(),
        len: 0,
        lifetime: PhantomData,
    };

    pub const fn new(bytes: &'b [u8]) -> Self {
        Bytes {
            ptr: bytes.as_ptr(),
            len: bytes.len(),
            lifetime: PhantomData,
        }
    }

    pub const fn from_option(bytes: Option<&'b [u8]>) -> Self {
        match bytes {
            Some(bytes) => Bytes::new(bytes),
            None => Bytes::NULL,
        }
    }

    /// # Safety
    /// `ptr` is null, or valid for reads of `len` bytes for all of `'b`, which the caller chooses.
    pub const unsafe fn from_raw(ptr: *const u8, len: usize) -> Self {
        Bytes {
            ptr,
            len: if ptr.is_null() { 0 } else { len },
            lifetime: PhantomData,
        }
    }

    pub const fn get(self) -> Option<&'b [u8]> {
        if self.ptr.is_null() {
            return None;
        }
        // SAFETY: a non-null pointer came from a slice of this length and lifetime (`new`) or from a caller of
        // `from_raw` who promised the same.
        Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
    }

    /// Length in bytes; 0 for null.
    pub const fn len(self) -> usize {
        self.len
    }

    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.get() {
            Some(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            None => f.write_str("null"),
        }
    }
}
