//! One file per subcommand.

pub mod bench;
pub mod docs;
pub mod foreground;
mod signals;
pub mod with_servers;
