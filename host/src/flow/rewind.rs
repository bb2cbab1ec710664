//! Going back to the last cut without a new start of the task (I4).

use super::{Flow, FlowError, Target, broken, stop_transform};

impl Flow {
    /// Forgets every record on its way and makes transforms with state anew; the caller restores that state and reads the
    /// records again. Sink plugins keep what they took: storing it again changes nothing, and their verdicts on it are
    /// no longer anybody's.
    ///
    /// # Errors
    /// A plugin that cannot make its instance.
    pub fn rewind(&mut self) -> Result<(), FlowError> {
        self.ledger.forget();
        self.unflushed.clear();
        self.unflushed_dead_letters.clear();
        self.timers.clear();
        self.alone.rewind();
        self.closed_below = 0;
        for node in &mut self.transforms {
            node.input.clear();
            node.retry = None;
            node.watermarks.clear();
            if node.is_stateful() {
                let fresh = (node.factory)().map_err(|error| broken(&node.name, &error))?;
                stop_transform(&node.name, std::mem::replace(&mut node.instance, fresh));
            }
        }
        for node in &mut self.sinks {
            node.input.clear();
            node.full_since = None;
            if let Target::Plugin(sink) = &mut node.target {
                sink.disown();
            }
        }
        Ok(())
    }
}
