//! `weir` as a real process: the binary and plugins of this build, a folder with a topology, the
//! running host and its log.

mod build;
mod folder;
mod log;
mod memory;
mod metrics;
mod process;

pub use build::Build;
pub use folder::Folder;
pub use log::Log;
pub use memory::Memory;
pub use metrics::{Metrics, Sample};
pub use process::{Command, Ended, Host, Ready, Signal};
