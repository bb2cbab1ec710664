//! When the operations without verdict were accepted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

/// Counts by moment: the operations of one write share one, so that there are few.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    pending: BTreeMap<Instant, usize>,
    count: usize,
}

impl Arrivals {
    pub(crate) fn enter(&mut self, at: Instant, count: usize) {
        *self.pending.entry(at).or_default() += count;
        self.count += count;
    }

    pub(crate) fn leave(&mut self, at: Instant, count: usize) {
        if let Entry::Occupied(mut pending) = self.pending.entry(at) {
            let left = pending.get().saturating_sub(count);
            match left {
                0 => drop(pending.remove()),
                left => drop(pending.insert(left)),
            }
            self.count = self.count.saturating_sub(count);
        }
    }

    /// Operations without verdict.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.pending.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_is_one_that_has_not_left() {
        let mut arrivals = Arrivals::default();
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        arrivals.enter(first, 2);
        arrivals.enter(second, 3);
        arrivals.enter(second, 1);
        assert_eq!((arrivals.count(), arrivals.oldest()), (6, Some(first)));
        arrivals.leave(first, 1);
        assert_eq!((arrivals.count(), arrivals.oldest()), (5, Some(first)));
        arrivals.leave(first, 1);
        assert_eq!((arrivals.count(), arrivals.oldest()), (4, Some(second)));
        arrivals.leave(second, 4);
        assert_eq!((arrivals.count(), arrivals.oldest()), (0, None));
        assert!(arrivals.pending.is_empty());
    }
}
