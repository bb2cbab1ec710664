//! Which source offsets may be committed: the prefix whose outputs have all been acknowledged.

use std::collections::VecDeque;

/// The records of one source partition that are under way, in their order.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Offset and whether it is settled; the front one is never settled.
    under_way: VecDeque<(i64, bool)>,
    /// The offset after the last settled prefix.
    next: Option<i64>,
}

impl Tracker {
    /// A record was read. Offsets rise, possibly with gaps.
    pub fn read(&mut self, offset: i64) {
        self.under_way.push_back((offset, false));
    }

    /// A record that was read is settled.
    pub fn settle(&mut self, offset: i64) {
        if let Ok(index) = self.under_way.binary_search_by_key(&offset, |&(o, _)| o)
            && let Some((_, settled)) = self.under_way.get_mut(index)
        {
            *settled = true;
        }
        while let Some(&(offset, true)) = self.under_way.front() {
            self.under_way.pop_front();
            self.next = Some(offset + 1);
        }
    }

    /// The offset to commit, once after each advance.
    pub fn take_commit(&mut self) -> Option<i64> {
        self.next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::Tracker;

    #[test]
    fn only_the_settled_prefix_is_committed() {
        let mut tracker = Tracker::default();
        for offset in [3, 4, 7, 8] {
            tracker.read(offset);
        }
        tracker.settle(4);
        assert_eq!(tracker.take_commit(), None);
        tracker.settle(3);
        assert_eq!(tracker.take_commit(), Some(5));
        assert_eq!(tracker.take_commit(), None);
        tracker.settle(8);
        tracker.settle(7);
        assert_eq!(tracker.take_commit(), Some(9));
    }
}
