use weir_plugin_api::abi_stable::std_types::{RSlice, RVec};
use weir_plugin_api::{StatePart, StatePartRef};

/// The state of one slot, in parts that the plugin names. A checkpoint stores only the parts that changed, so make them of
/// what changes together: a window, a bucket of keys.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) parts: RVec<StatePart>,
}

impl State {
    /// A part with these bytes. An id stands once in a slot.
    pub fn put(&mut self, id: u64, bytes: Vec<u8>) {
        self.parts.push(StatePart {
            id,
            is_unchanged: false,
            bytes: bytes.into(),
        });
    }

    /// A part that is as the snapshot before gave it, or as it was restored. A part that is neither put nor kept is gone.
    pub fn keep(&mut self, id: u64) {
        self.parts.push(StatePart {
            id,
            is_unchanged: true,
            bytes: RVec::new(),
        });
    }
}

/// The parts of a slot's state on their way back, in ascending order of their ids.
#[derive(Clone, Copy, Debug)]
pub struct StateParts<'a>(pub(crate) RSlice<'a, StatePartRef<'a>>);

impl<'a> StateParts<'a> {
    /// Id and bytes of each part.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let parts = self.0.as_slice().iter();
        parts.map(|part| (part.id, part.bytes.as_slice()))
    }

    /// The bytes of one part.
    pub fn get(&self, id: u64) -> Option<&'a [u8]> {
        let mut parts = self.iter();
        parts.find(|(of, _)| *of == id).map(|(_, bytes)| bytes)
    }
}
