//! Tells a broken index from bad documents: when one cause rejects half of what an index is sent, the cause is the
//! index's configuration, and rejecting on would empty the topic into the dead letters.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::operation::Operation;

/// Indices that are remembered; where dates make more, the one that was met first is forgotten.
const INDICES_MAX: usize = 64;

/// Counts the last items of each index. Once `rejections_max` of the last twice as many were rejected with one code,
/// no more are, until an operation whose rejection was taken back is stored: then the cause is repaired.
#[derive(Debug)]
pub(crate) struct StormBreaker {
    /// 0: every rejection passes.
    rejections_max: usize,
    indices: HashMap<Arc<str>, Recent>,
    met: VecDeque<Arc<str>>,
    /// Operations in a row of one index that ended well, and are not among its outcomes yet.
    passed: Option<(Arc<str>, usize)>,
    reason: Option<String>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The code of a rejection; `None` for an operation that ended well.
    outcomes: VecDeque<Option<&'static str>>,
    tripped: Vec<&'static str>,
}

impl StormBreaker {
    pub(crate) fn new(rejections_max: usize) -> Self {
        StormBreaker {
            rejections_max,
            indices: HashMap::new(),
            met: VecDeque::new(),
            passed: None,
            reason: None,
        }
    }

    /// Why records wait; `None` unless the breaker is open for an index.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// An operation ended well.
    pub(crate) fn passed(&mut self, operation: &Operation) {
        if self.rejections_max == 0 {
            return;
        }
        if operation.held_by_breaker {
            self.note_passed();
            self.indices.remove(&operation.index);
            self.met.retain(|index| *index != operation.index);
            let still_open = self
                .indices
                .values()
                .any(|recent| !recent.tripped.is_empty());
            self.reason = self.reason.take().filter(|_| still_open);
        }
        match &mut self.passed {
            Some((index, count)) if Arc::ptr_eq(index, &operation.index) => *count += 1,
            _ => {
                self.note_passed();
                self.passed = Some((Arc::clone(&operation.index), 1));
            }
        }
    }

    fn note_passed(&mut self) {
        if let Some((index, count)) = self.passed.take() {
            self.note(&index, None, count);
        }
    }

    /// Asks for a rejection. Errors: it is not to be, since this looks like the index's fault; the sentence says so.
    pub(crate) fn reject(
        &mut self,
        operation: &Operation,
        code: &'static str,
        seen: &str,
    ) -> Result<(), String> {
        let limit = self.rejections_max;
        if limit == 0 {
            return Ok(());
        }
        self.note_passed();
        let index = &operation.index;
        let recent = self.recent(index);
        let rejected = recent
            .outcomes
            .iter()
            .filter(|outcome| **outcome == Some(code));
        if !recent.tripped.contains(&code) && rejected.count() < limit {
            self.note(index, Some(code), 1);
            return Ok(());
        }
        if !recent.tripped.contains(&code) {
            recent.tripped.push(code);
        }
        let storm = format!(
            "index `{index}` rejected {limit} of its last {} documents or fewer as `{code}`, so it is held to be the index that is wrong and no more are rejected; repair it, or restart with `max_rejections: 0`; last: {seen}",
            limit.saturating_mul(2)
        );
        self.reason = Some(storm.clone());
        Err(storm)
    }

    fn note(&mut self, index: &Arc<str>, outcome: Option<&'static str>, count: usize) {
        let window = self.rejections_max.saturating_mul(2);
        let count = count.min(window);
        let outcomes = &mut self.recent(index).outcomes;
        let forgotten = (outcomes.len() + count).saturating_sub(window);
        outcomes.drain(..forgotten);
        outcomes.extend(std::iter::repeat_n(outcome, count));
    }

    fn recent(&mut self, index: &Arc<str>) -> &mut Recent {
        if !self.indices.contains_key(index) {
            self.met.push_back(Arc::clone(index));
            if self.met.len() > INDICES_MAX
                && let Some(oldest) = self.met.pop_front()
            {
                self.indices.remove(&oldest);
            }
        }
        self.indices.entry(Arc::clone(index)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::code;
    use crate::testing::operation;

    fn of(index: &str) -> Operation {
        Operation {
            index: index.into(),
            ..operation(1, "a", Some(1))
        }
    }

    fn rejections(breaker: &mut StormBreaker, index: &str, tries: usize) -> usize {
        let operation = of(index);
        let passed = |_: &usize| breaker.reject(&operation, code::MAPPING, "no").is_ok();
        (0..tries).filter(passed).count()
    }

    #[test]
    fn a_storm_is_stopped_at_the_limit_and_only_where_it_rages() {
        let mut breaker = StormBreaker::new(5);
        assert_eq!(rejections(&mut breaker, "broken", 100), 5);
        assert!(
            breaker
                .reason()
                .is_some_and(|reason| reason.contains("`broken`"))
        );
        assert_eq!(rejections(&mut breaker, "other", 3), 3);
        assert!(
            breaker
                .reject(&of("broken"), code::ILLEGAL_ARGUMENT, "no")
                .is_ok(),
            "another cause"
        );
        let mut off = StormBreaker::new(0);
        assert_eq!(rejections(&mut off, "broken", 100), 100);
    }

    #[test]
    fn bad_documents_among_good_ones_are_no_storm() {
        let mut breaker = StormBreaker::new(5);
        for _ in 0..100 {
            assert!(breaker.reject(&of("i"), code::MAPPING, "no").is_ok());
            breaker.passed(&of("i"));
            breaker.passed(&of("i"));
        }
        assert_eq!(breaker.reason(), None);
    }

    #[test]
    fn good_ones_in_a_row_count_each() {
        let mut breaker = StormBreaker::new(5);
        let good = of("i");
        for _ in 0..100 {
            assert!(breaker.reject(&good, code::MAPPING, "no").is_ok());
            breaker.passed(&good);
            breaker.passed(&good);
        }
        // Three of the last ten are bad. Of the next three one only takes the place of a bad one, so the third makes five.
        assert_eq!(rejections(&mut breaker, "i", 100), 3);
    }

    #[test]
    fn a_held_operation_that_gets_through_ends_the_storm() {
        let mut breaker = StormBreaker::new(5);
        rejections(&mut breaker, "broken", 6);
        breaker.passed(&of("broken"));
        assert!(breaker.reason().is_some(), "it was stored before, too");
        breaker.passed(&Operation {
            held_by_breaker: true,
            ..of("broken")
        });
        assert_eq!(breaker.reason(), None);
        assert_eq!(rejections(&mut breaker, "broken", 100), 5);
    }

    #[test]
    fn the_indices_remembered_are_bounded() {
        let mut breaker = StormBreaker::new(5);
        for day in 0..(INDICES_MAX * 3) {
            breaker.passed(&of(&format!("day{day}")));
        }
        assert_eq!(
            (breaker.indices.len(), breaker.met.len()),
            (INDICES_MAX, INDICES_MAX)
        );
    }
}
