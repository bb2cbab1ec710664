//! A lane at work: its faults at their times, and a look at its target between them.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::journal::Journal;
use super::schedule::{Event, Fault, Lane};

/// How often a target is looked at between faults.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// What the faults of a lane happen to.
pub trait Target {
    /// Makes the fault, and heals what is to be healed.
    ///
    /// # Errors
    /// It could not be made, or it was not taken as the contract says.
    fn take(&mut self, fault: Fault, journal: &Journal) -> Result<()>;

    /// Looks whether something has ended that nobody ended.
    ///
    /// # Errors
    /// It could not be replaced.
    fn watch(&mut self, _journal: &Journal) -> Result<()> {
        Ok(())
    }
}

/// Plays the events of `lane` until the run is `length` old; late ones at once.
pub fn play(
    lane: Lane,
    events: &[Event],
    length: Duration,
    target: &mut dyn Target,
    journal: &Journal,
) {
    for event in events.iter().filter(|event| event.lane == lane) {
        wait(lane, event.at, target, journal);
        journal.fault(event);
        note(lane, target.take(event.fault, journal), journal);
    }
    wait(lane, length, target, journal);
}

fn wait(lane: Lane, until: Duration, target: &mut dyn Target, journal: &Journal) {
    loop {
        note(lane, target.watch(journal), journal);
        let left = until.saturating_sub(journal.now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(WATCH_INTERVAL));
    }
}

fn note(lane: Lane, result: Result<()>, journal: &Journal) {
    if let Err(error) = result {
        journal.find(lane.name(), &format!("{error:#}"));
    }
}

impl<T: Target> Target for &mut T {
    fn take(&mut self, fault: Fault, journal: &Journal) -> Result<()> {
        (**self).take(fault, journal)
    }

    fn watch(&mut self, journal: &Journal) -> Result<()> {
        (**self).watch(journal)
    }
}
