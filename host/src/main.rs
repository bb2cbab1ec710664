//! The `weir` command.

use std::process::ExitCode;

use weir::{cli, commands};

fn main() -> ExitCode {
    let cli = cli::parse(weir_plugin_api::API_VERSION);
    ExitCode::from(commands::execute(&cli))
}
