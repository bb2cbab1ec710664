//! One file per subcommand.

pub mod bench;
pub mod chaos;
pub mod docs;
pub mod foreground;
pub mod fuzz;
mod signals;
pub mod sink;
pub mod with_servers;
