//! Which documents are in a flight, and what waits behind them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::operation::{Lane, Operation};

/// 16 bytes with its key: four to a cache line.
#[derive(Debug)]
struct Holder {
    flight: u32,
    /// Operations of the flight without verdict.
    outstanding: u32,
    all_versioned: bool,
    /// Others wait in [`Lanes::blocked`].
    is_blocked: bool,
}

/// The lanes that belong to a flight; every other lane is free.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    held: HashMap<Lane, Holder, RandomState>,
    /// By lane, in order. Apart, for few lanes have any: every operation looks up its lane twice.
    blocked: HashMap<Lane, VecDeque<Operation>, RandomState>,
    blocked_operations: usize,
}

impl Lanes {
    /// Gives the operation back if it may ride in this flight; else it is kept until the lane is free.
    pub(crate) fn enter(&mut self, operation: Operation, flight: u32) -> Option<Operation> {
        match self.held.entry(operation.lane) {
            Entry::Vacant(free) => {
                free.insert(Holder {
                    flight,
                    outstanding: 1,
                    all_versioned: operation.versioned,
                    is_blocked: false,
                });
                Some(operation)
            }
            Entry::Occupied(mut held) => {
                let lane = held.get_mut();
                let in_order = lane.all_versioned && operation.versioned;
                if lane.flight != flight || lane.is_blocked || !in_order {
                    lane.is_blocked = true;
                    let blocked = self.blocked.entry(operation.lane).or_default();
                    blocked.push_back(operation);
                    self.blocked_operations += 1;
                    return None;
                }
                lane.outstanding += 1;
                Some(operation)
            }
        }
    }

    /// The operation goes on in another flight, with all others of its lane.
    pub(crate) fn move_to(&mut self, operation: &Operation, flight: u32) {
        if let Some(lane) = self.held.get_mut(&operation.lane) {
            lane.flight = flight;
        }
    }

    /// An operation of this lane has its verdict. Answers, in order, what waited for it and is free now.
    pub(crate) fn leave(&mut self, lane: Lane) -> VecDeque<Operation> {
        let Entry::Occupied(mut held) = self.held.entry(lane) else {
            return VecDeque::new();
        };
        let outstanding = &mut held.get_mut().outstanding;
        *outstanding = outstanding.saturating_sub(1);
        if *outstanding > 0 {
            return VecDeque::new();
        }
        if !held.remove().is_blocked {
            return VecDeque::new();
        }
        let blocked = self.blocked.remove(&lane).unwrap_or_default();
        self.blocked_operations = self.blocked_operations.saturating_sub(blocked.len());
        blocked
    }

    /// Operations that wait behind another one on their document.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked_operations
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.blocked.is_empty()
    }
}
