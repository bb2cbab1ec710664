//! The windows of one source partition.

use weir_plugin_sdk::State;

use crate::percentiles::{DecodeError, Distribution};
use crate::start_field::UNIX_MS_MAX;
use crate::wire::{Reader, WireError, put_varint};

/// Windows that a slot holds at once, open ones and those kept for late records. A partition may run 10 minutes ahead of
/// the slowest, which is 600 windows of a second; the rest is for lateness. 4,096 windows with few values take 1 MiB.
pub const WINDOWS_PER_SLOT_MAX: usize = 4_096;

/// One tumbling window of one slot.
#[derive(Clone, Debug)]
pub struct Window {
    /// Unix milliseconds.
    pub start_ms: i64,
    /// Has something that no emitted document has.
    pub dirty: bool,
    /// Is as the last snapshot, or the restore, has it.
    pub saved: bool,
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
    #[error("its windows are {found} ms long, and `size` is {configured} ms")]
    Size { found: u64, configured: i64 },
    #[error("it has more windows than the limit, {WINDOWS_PER_SLOT_MAX}")]
    TooManyWindows,
    #[error("the window {0} is out of order, out of range or marked wrongly")]
    Window(u64),
}

impl SlotWindows {
    /// The window that starts at `start_ms`, opened if it is not there.
    #[inline]
    pub fn window(&mut self, start_ms: i64) -> Result<&mut Window, Full> {
        if self
            .windows
            .get(self.current)
            .is_none_or(|window| window.start_ms != start_ms)
        {
            self.current = self.find_or_open(start_ms)?;
        }
        self.windows.get_mut(self.current).ok_or(Full)
    }

    fn find_or_open(&mut self, start_ms: i64) -> Result<usize, Full> {
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
                        dirty: false,
                        saved: false,
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

    /// Names a part for each window: its number is start / size, its bytes are `size_ms` (varint), whether the window is
    /// dirty (one byte), and the distribution.
    pub fn save(&mut self, size_ms: i64, state: &mut State) {
        for window in &mut self.windows {
            let id = (window.start_ms / size_ms).unsigned_abs();
            if window.saved {
                state.keep(id);
                continue;
            }
            let mut bytes = Vec::new();
            put_varint(&mut bytes, size_ms.unsigned_abs());
            bytes.push(u8::from(window.dirty));
            window.latencies.encode(&mut bytes);
            state.put(id, bytes);
            window.saved = true;
        }
    }

    /// Reads what `save` wrote for windows of `size_ms`; parts ascend by id.
    pub fn restore<'a>(
        size_ms: i64,
        parts: impl Iterator<Item = (u64, &'a [u8])>,
    ) -> Result<SlotWindows, RestoreError> {
        let mut windows: Vec<Window> = Vec::new();
        for (id, bytes) in parts {
            if windows.len() >= WINDOWS_PER_SLOT_MAX {
                return Err(RestoreError::TooManyWindows);
            }
            let window = restore_window(size_ms, id, bytes)?;
            let is_behind = windows
                .last()
                .is_none_or(|last| last.start_ms < window.start_ms);
            if !is_behind {
                return Err(RestoreError::Window(id));
            }
            windows.push(window);
        }
        Ok(SlotWindows {
            windows,
            current: 0,
        })
    }
}

fn restore_window(size_ms: i64, id: u64, bytes: &[u8]) -> Result<Window, RestoreError> {
    let mut reader = Reader::new(bytes);
    let found = reader.varint()?;
    if found != size_ms.unsigned_abs() {
        return Err(RestoreError::Size {
            found,
            configured: size_ms,
        });
    }
    let dirty = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return Err(RestoreError::Window(id)),
    };
    let start_ms = i64::try_from(id)
        .ok()
        .and_then(|index| index.checked_mul(size_ms))
        .filter(|start_ms| *start_ms <= UNIX_MS_MAX)
        .ok_or(RestoreError::Window(id))?;
    Ok(Window {
        start_ms,
        dirty,
        saved: true,
        latencies: Distribution::decode(reader.rest())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restored_windows_ascend_and_lie_in_time() {
        // Size 7, not dirty, no values.
        let mut empty = vec![7, 0];
        Distribution::default().encode(&mut empty);
        let restore = |ids: &[u64]| {
            let parts = ids.iter().map(|id| (*id, empty.as_slice()));
            SlotWindows::restore(7, parts).map(|windows| windows.windows.len())
        };
        assert_eq!(restore(&[]), Ok(0));
        assert_eq!(restore(&[0, 1, 9]), Ok(3));
        assert_eq!(restore(&[1, 1]), Err(RestoreError::Window(1)));
        assert_eq!(restore(&[0, 5, 4]), Err(RestoreError::Window(4)));
        assert_eq!(restore(&[u64::MAX]), Err(RestoreError::Window(u64::MAX)));
        let marked = SlotWindows::restore(
            7,
            [(0, [&[7, 2], &empty[2..]].concat().as_slice())].into_iter(),
        );
        assert_eq!(marked.err(), Some(RestoreError::Window(0)));
    }
}
