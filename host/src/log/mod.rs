//! The log: one line per event on stderr, as text for people or as JSON for machines, without secrets.
//!
//! Convention: a line that somebody may wait for or alert on carries the field `event` with a stable name, as in
//! `tracing::info!(event = "ready", pipeline, "every source has its assignment")`. In JSON every field stands at the
//! top level beside `timestamp`, `level`, `target` and `message`; in text the event stands before the message.
//!
//! Events only: spans cost the data path and nothing here reads them.

mod layer;
mod line;
mod printer;
mod scrubber;

pub use line::Line;
pub use printer::{Format, Printer, say};
pub use scrubber::Scrubber;

use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// The least serious level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What stopped something.
    Error,
    /// What will stop something, or was worked around.
    Warn,
    /// What an operator wants to know of a healthy host.
    Info,
    /// Decisions of the host.
    Debug,
    /// Everything, the libraries included.
    Trace,
}

impl Level {
    /// The value of `--log-level`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

/// Sends everything that the process logs, through `tracing` or through `log`, to `printer`, and panics with it. Once
/// per process.
///
/// # Errors
/// The process has a logger already.
pub fn init(level: Level, printer: Printer) -> Result<(), TryInitError> {
    tracing_subscriber::registry()
        .with(level.filter())
        .with(layer::LineLayer::new(printer))
        .try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic as one line of the log: the default report is several lines of text, whatever the format.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        event = "panic",
        thread = thread.name(),
        location,
        "{}",
        panic.payload_as_str().unwrap_or("a panic without a text")
    );
}
