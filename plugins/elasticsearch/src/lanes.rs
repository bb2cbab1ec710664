//! Which documents are in a flight, and what waits behind them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::operation::Operation;

#[derive(Debug)]
struct Lane {
    flight: u64,
    /// Operations of the flight without verdict.
    outstanding: usize,
    all_versioned: bool,
    blocked: VecDeque<Operation>,
}

/// The lanes that belong to a flight; every other lane is free.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    held: HashMap<u64, Lane>,
    blocked: usize,
}

impl Lanes {
    /// Gives the operation back if it may ride in this flight; else it is kept until the lane is free.
    pub(crate) fn enter(&mut self, operation: Operation, flight: u64) -> Option<Operation> {
        match self.held.entry(operation.lane) {
            Entry::Vacant(free) => {
                let all_versioned = operation.versioned;
                let blocked = VecDeque::new();
                free.insert(Lane {
                    flight,
                    outstanding: 1,
                    all_versioned,
                    blocked,
                });
                Some(operation)
            }
            Entry::Occupied(mut held) => {
                let lane = held.get_mut();
                let in_order = lane.all_versioned && operation.versioned;
                if lane.flight != flight || !lane.blocked.is_empty() || !in_order {
                    lane.blocked.push_back(operation);
                    self.blocked += 1;
                    return None;
                }
                lane.outstanding += 1;
                Some(operation)
            }
        }
    }

    /// The operation goes on in another flight, with all others of its lane.
    pub(crate) fn move_to(&mut self, operation: &Operation, flight: u64) {
        if let Some(lane) = self.held.get_mut(&operation.lane) {
            lane.flight = flight;
        }
    }

    /// The operation has its verdict. Answers, in order, what waited for it and is free now.
    pub(crate) fn leave(&mut self, operation: &Operation) -> VecDeque<Operation> {
        let Entry::Occupied(mut held) = self.held.entry(operation.lane) else {
            return VecDeque::new();
        };
        let lane = held.get_mut();
        lane.outstanding = lane.outstanding.saturating_sub(1);
        if lane.outstanding > 0 {
            return VecDeque::new();
        }
        let blocked = held.remove().blocked;
        self.blocked = self.blocked.saturating_sub(blocked.len());
        blocked
    }

    /// Operations that wait behind another one on their document.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
