//! The transform as the host sees it: one stage that measures, and one that merges.

use std::time::Duration;

use weir_plugin_sdk::*;

use crate::config::{Emit, LatencyWindowConfig};
use crate::measuring::Measuring;
use crate::merging::Merging;

/// The transform: latencies of records into windows, or sketches of windows into documents (`merge`).
pub enum LatencyWindow {
    Measuring(Box<Measuring>),
    Merging(Box<Merging>),
}

impl Transform for LatencyWindow {
    type Config = LatencyWindowConfig;

    /// A document needs every partition; a sketch needs one, and stage two counts no time of its own.
    fn describe(config: &LatencyWindowConfig) -> TransformDescription {
        TransformDescription {
            scope: match config.emit {
                Emit::Document => Scope::Pipeline,
                Emit::Sketch => Scope::Partition,
            },
            timers: !config.merge,
        }
    }

    fn validate(config: &LatencyWindowConfig, errors: &mut Errors) {
        config.validate(errors);
    }

    fn new(config: LatencyWindowConfig, context: &Context) -> Result<Self, Error> {
        let mut errors = Errors::default();
        config.validate(&mut errors);
        if let Some((path, message)) = errors.iter().next() {
            return Err(Error::fatal(
                "latency-window.config",
                format!("{path}: {message}"),
            ));
        }
        Ok(match config.merge {
            false => LatencyWindow::Measuring(Box::new(Measuring::new(&config, context))),
            true => LatencyWindow::Merging(Box::new(Merging::new(&config, context))),
        })
    }

    #[inline]
    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        match self {
            LatencyWindow::Measuring(measuring) => measuring.process(record, out),
            LatencyWindow::Merging(merging) => merging.process(&record),
        }
    }

    fn after_batch<'b>(&mut self, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        match self {
            LatencyWindow::Measuring(measuring) => measuring.after_batch(out),
            LatencyWindow::Merging(merging) => merging.emit_closed(out),
        }
    }

    fn on_watermark<'b>(
        &mut self,
        watermark: Watermark,
        out: &mut Out<'_, 'b>,
    ) -> Result<(), Error> {
        match (self, watermark) {
            (LatencyWindow::Measuring(measuring), Watermark::All { at_ms }) => {
                measuring.all_passed(at_ms, out)
            }
            (LatencyWindow::Measuring(measuring), Watermark::Slot { slot, at_ms }) => {
                measuring.slot_passed(slot, at_ms, out);
                Ok(())
            }
            (LatencyWindow::Merging(_), _) => Ok(()),
        }
    }

    fn snapshot(&mut self, slot: u32, state: &mut State) -> Result<(), Error> {
        match self {
            LatencyWindow::Measuring(measuring) => measuring.snapshot(slot, state),
            LatencyWindow::Merging(merging) => {
                merging.snapshot(slot, state);
                Ok(())
            }
        }
    }

    fn restore(&mut self, slot: u32, version: u32, parts: StateParts<'_>) -> Result<(), Error> {
        if version != Self::STATE_VERSION {
            let message = format!(
                "the state has version {version}, and this plugin reads {}",
                Self::STATE_VERSION
            );
            return Err(Error::fatal("latency-window.state", message));
        }
        match self {
            LatencyWindow::Measuring(measuring) => measuring.restore(slot, parts),
            LatencyWindow::Merging(merging) => merging.restore(slot, parts),
        }
    }

    fn release(&mut self, slot: u32) {
        match self {
            LatencyWindow::Measuring(measuring) => measuring.release(slot),
            // Of pipeline scope: slots go with the instance.
            LatencyWindow::Merging(_) => {}
        }
    }
}

pub fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
