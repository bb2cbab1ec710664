//! One file per subcommand.

pub mod foreground;
mod signals;
pub mod with_servers;
