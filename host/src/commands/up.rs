//! `weir up`: a host process for every pipeline of the file.

use crate::cli::{GlobalOptions, UpOptions};
use crate::http;
use crate::log::{Printer, Scrubber, say};
use crate::supervisor::{self, Settings};
use crate::topology::ParseMode;

use super::load::load_or_say;
use super::run::listen;

const EXIT_FAILED: u8 = 1;
const EXIT_REFUSED: u8 = 2;

/// Runs until SIGTERM or a refusal; answers the exit code.
pub fn run(global: &GlobalOptions, options: &UpOptions, scrubber: &Scrubber) -> u8 {
    let Some((topology, _)) = load_or_say(&global.file, ParseMode::Run, scrubber) else {
        return EXIT_REFUSED;
    };
    let bound = match http::bind(listen(options.http, topology.http)) {
        Ok(bound) => bound,
        Err(error) => {
            say(&format!("{}: {error}", error.code()));
            return EXIT_REFUSED;
        }
    };
    let names = topology
        .pipelines
        .iter()
        .map(|pipeline| pipeline.name.clone())
        .collect();
    let longest = topology
        .pipelines
        .iter()
        .map(|pipeline| pipeline.shutdown_timeout)
        .max()
        .unwrap_or_default();
    let printer = Printer::new(global.log_format, scrubber.clone());
    let settings = Settings::new(&global.file, global.log_level, names, longest, bound);
    match settings.and_then(|settings| supervisor::run(settings, printer)) {
        Ok(code) => code,
        Err(error) => {
            say(&error.to_string());
            EXIT_FAILED
        }
    }
}
