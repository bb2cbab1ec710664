//! Which node a request goes to: round robin over those that work, with growing rest for those that do not.

use std::time::{Duration, Instant};

/// A node that failed once is left alone this long; doubled by each further failure.
const REST_BASE: Duration = Duration::from_secs(1);
/// A node that came back is used again at most this much later.
const REST_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Node {
    failures: u32,
    resting_until: Option<Instant>,
}

/// The configured nodes by their position.
#[derive(Debug)]
pub(crate) struct NodeTable {
    nodes: Vec<Node>,
    next: usize,
}

impl NodeTable {
    pub(crate) fn new(count: usize) -> Self {
        NodeTable {
            nodes: (0..count).map(|_| Node::default()).collect(),
            next: 0,
        }
    }

    /// A node that is not in `tried`: the next that does not rest, else the one whose rest ends first. `None` if all
    /// were tried.
    pub(crate) fn pick(&mut self, tried: &[usize], now: Instant) -> Option<usize> {
        let count = self.nodes.len();
        let candidates = || {
            (0..count)
                .map(|step| (self.next + step) % count)
                .filter(|node| !tried.contains(node))
        };
        let rest_ends = |node: &usize| self.nodes.get(*node).and_then(|node| node.resting_until);
        let picked = candidates()
            .find(|node| rest_ends(node).is_none_or(|end| end <= now))
            .or_else(|| candidates().min_by_key(rest_ends))?;
        self.next = (picked + 1) % count;
        Some(picked)
    }

    pub(crate) fn worked(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            *node = Node::default();
        }
    }

    /// True while the node is left alone after a failure.
    pub(crate) fn rests(&self, node: usize, now: Instant) -> bool {
        let node = self.nodes.get(node);
        node.and_then(|node| node.resting_until)
            .is_some_and(|end| end > now)
    }

    pub(crate) fn failed(&mut self, node: usize, now: Instant) {
        let Some(node) = self.nodes.get_mut(node) else {
            return;
        };
        let rest = REST_BASE
            .saturating_mul(1 << node.failures.min(16))
            .min(REST_MAX);
        node.failures = node.failures.saturating_add(1);
        node.resting_until = Some(now + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_nodes_take_turns() {
        let mut table = NodeTable::new(3);
        let now = Instant::now();
        let picks: Vec<_> = (0..4).map(|_| table.pick(&[], now)).collect();
        assert_eq!(picks, [Some(0), Some(1), Some(2), Some(0)]);
        assert_eq!(table.pick(&[0, 1, 2], now), None);
    }

    #[test]
    fn case_6_a_dead_node_is_tried_again_after_a_growing_rest() {
        let mut table = NodeTable::new(2);
        let mut now = Instant::now();
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            table.failed(0, now);
            let just_before = now + Duration::from_secs(rest) - Duration::from_millis(1);
            assert_eq!(
                [table.pick(&[], just_before), table.pick(&[], just_before)],
                [Some(1), Some(1)]
            );
            now += Duration::from_secs(rest);
            let both = [table.pick(&[], now), table.pick(&[], now)];
            assert!(both.contains(&Some(0)), "{rest}");
        }
        table.worked(0);
        table.failed(0, now);
        assert!(
            [
                table.pick(&[], now + REST_BASE),
                table.pick(&[], now + REST_BASE)
            ]
            .contains(&Some(0))
        );
    }

    #[test]
    fn when_all_rest_the_first_to_come_back_is_asked() {
        let mut table = NodeTable::new(2);
        let now = Instant::now();
        table.failed(0, now);
        table.failed(0, now);
        table.failed(1, now);
        assert_eq!(table.pick(&[], now), Some(1));
        assert_eq!(table.pick(&[1], now), Some(0));
    }
}
