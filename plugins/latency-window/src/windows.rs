//! The windows of one source partition.

use crate::percentiles::{DecodeError, Distribution};
use crate::wire::{Reader, WireError, put_varint, unzigzag, zigzag};

/// Windows that a slot holds at once, open ones and those kept for late records. A partition may run 10 minutes ahead of
/// the slowest, which is 600 windows of a second; the rest is for lateness. 4,096 windows with few values take 1 MiB.
pub const WINDOWS_PER_SLOT_MAX: usize = 4_096;

/// One tumbling window of one slot.
#[derive(Clone, Debug)]
pub struct Window {
    /// Unix milliseconds.
    pub start_ms: i64,
    /// Offset of the first record that went in; a slot's records come in offset order.
    pub first_offset: i64,
    /// Has something that no emitted document has.
    pub dirty: bool,
    pub latencies: Distribution,
}

/// Ascending by start.
#[derive(Clone, Debug, Default)]
pub struct SlotWindows {
    windows: Vec<Window>,
    /// Index of the window used last: nearly every record goes where the one before went.
    current: usize,
}

/// The slot holds [`WINDOWS_PER_SLOT_MAX`] windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why bytes are no windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Distribution(#[from] DecodeError),
    #[error("the windows are {found} ms long, and `size` is {configured} ms")]
    Size { found: u64, configured: i64 },
    #[error("{0} windows are more than the limit")]
    TooManyWindows(u64),
    #[error("the window {0} is out of order, off the grid or marked wrongly")]
    Window(u64),
}

impl SlotWindows {
    /// The window that starts at `start_ms`, opened for `offset` if it is not there.
    #[inline]
    pub fn window(&mut self, start_ms: i64, offset: i64) -> Result<&mut Window, Full> {
        if self
            .windows
            .get(self.current)
            .is_none_or(|window| window.start_ms != start_ms)
        {
            self.current = self.find_or_open(start_ms, offset)?;
        }
        self.windows.get_mut(self.current).ok_or(Full)
    }

    fn find_or_open(&mut self, start_ms: i64, offset: i64) -> Result<usize, Full> {
        match self
            .windows
            .binary_search_by_key(&start_ms, |window| window.start_ms)
        {
            Ok(index) => Ok(index),
            Err(_) if self.windows.len() >= WINDOWS_PER_SLOT_MAX => Err(Full),
            Err(index) => {
                let latencies = Distribution::default();
                self.windows.insert(
                    index,
                    Window {
                        start_ms,
                        first_offset: offset,
                        dirty: false,
                        latencies,
                    },
                );
                Ok(index)
            }
        }
    }

    pub fn get_mut(&mut self, start_ms: i64) -> Option<&mut Window> {
        let index = self
            .windows
            .binary_search_by_key(&start_ms, |window| window.start_ms)
            .ok()?;
        self.windows.get_mut(index)
    }

    /// Starts of the dirty windows that start at or before `last_start_ms`.
    pub fn dirty_starts(&self, last_start_ms: i64) -> impl Iterator<Item = i64> {
        let due = self
            .windows
            .iter()
            .take_while(move |window| window.start_ms <= last_start_ms);
        due.filter(|window| window.dirty)
            .map(|window| window.start_ms)
    }

    /// Forgets the windows that start at or before `last_start_ms`.
    pub fn forget(&mut self, last_start_ms: i64) {
        let count = self
            .windows
            .partition_point(|window| window.start_ms <= last_start_ms);
        self.windows.drain(..count);
        self.current = self.current.saturating_sub(count);
    }

    /// The lowest offset that went into a window and into no emitted document.
    pub fn held_offset(&self) -> Option<i64> {
        self.windows
            .iter()
            .filter(|window| window.dirty)
            .map(|window| window.first_offset)
            .min()
    }

    /// Appends all windows: `size_ms`, their number, then for each start / size, first offset (zigzag), whether dirty
    /// (one byte), length and bytes of the distribution; numbers are varints.
    pub fn encode(&self, size_ms: i64, out: &mut Vec<u8>) {
        put_varint(out, size_ms.unsigned_abs());
        put_varint(out, self.windows.len() as u64);
        let mut latencies = Vec::new();
        for window in &self.windows {
            put_varint(out, (window.start_ms / size_ms).unsigned_abs());
            put_varint(out, zigzag(window.first_offset));
            out.push(u8::from(window.dirty));
            latencies.clear();
            window.latencies.encode(&mut latencies);
            put_varint(out, latencies.len() as u64);
            out.extend_from_slice(&latencies);
        }
    }

    /// Reads what `encode` wrote for windows of `size_ms`.
    pub fn decode(size_ms: i64, state: &[u8]) -> Result<SlotWindows, RestoreError> {
        let mut reader = Reader::new(state);
        let found = reader.varint()?;
        if found != size_ms.unsigned_abs() {
            return Err(RestoreError::Size {
                found,
                configured: size_ms,
            });
        }
        let count = reader.varint()?;
        if count > WINDOWS_PER_SLOT_MAX as u64 {
            return Err(RestoreError::TooManyWindows(count));
        }
        let mut windows = Vec::new();
        let mut earliest_ms = 0;
        for index in 0..count {
            let window = decode_window(size_ms, &mut reader)?
                .filter(|window| window.start_ms >= earliest_ms);
            let window = window.ok_or(RestoreError::Window(index))?;
            earliest_ms = window.start_ms.saturating_add(size_ms);
            windows.push(window);
        }
        reader.end()?;
        Ok(SlotWindows {
            windows,
            current: 0,
        })
    }
}

/// `None` for a window that `encode` never writes.
fn decode_window(size_ms: i64, reader: &mut Reader<'_>) -> Result<Option<Window>, RestoreError> {
    let start_ms = i64::try_from(reader.varint()?)
        .ok()
        .and_then(|index| index.checked_mul(size_ms));
    let first_offset = unzigzag(reader.varint()?);
    let dirty = match reader.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    let len = reader.varint()?;
    let latencies = Distribution::decode(reader.bytes(len)?)?;
    let window = start_ms.zip(dirty);
    Ok(window.map(|(start_ms, dirty)| Window {
        start_ms,
        first_offset,
        dirty,
        latencies,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restored_windows_ascend() {
        // Size 7, then windows with index, first offset 0, not dirty, an empty distribution.
        let decode = |indexes: &[u8]| {
            let mut state = vec![7, indexes.len() as u8];
            for index in indexes {
                state.extend([*index, 0, 0, 4, 1, 0, 0, 0]);
            }
            SlotWindows::decode(7, &state).map(|windows| windows.windows.len())
        };
        assert_eq!(decode(&[]), Ok(0));
        assert_eq!(decode(&[0, 1, 9]), Ok(3));
        assert_eq!(decode(&[1, 1]), Err(RestoreError::Window(1)));
        assert_eq!(decode(&[0, 5, 4]), Err(RestoreError::Window(2)));
        let marked = SlotWindows::decode(7, &[7, 1, 0, 0, 2, 4, 1, 0, 0, 0]);
        assert_eq!(marked.err(), Some(RestoreError::Window(0)));
        let far = SlotWindows::decode(
            7,
            &[[7, 1].as_slice(), &[0xFF; 8], &[0x7F, 0, 0, 4, 1, 0, 0, 0]].concat(),
        );
        assert_eq!(far.err(), Some(RestoreError::Window(0)));
    }
}
