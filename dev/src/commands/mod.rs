//! One file per subcommand.

pub mod bench;
pub mod foreground;
mod signals;
pub mod with_servers;
