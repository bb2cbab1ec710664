//! The commands of the `weir` binary, one module each.

mod catalog;
pub mod checkpoints;
pub mod graph;
mod load;
mod online;
pub mod plugins;
pub mod run;
pub mod test;
pub mod up;
pub mod validate;

use std::io::Write;

use crate::cli::{
    AnswerFormat, Cli, Command, GlobalOptions, GraphFormat, GraphOptions, PluginsOptions,
    ValidateOptions,
};
use crate::log::{self, Printer, Scrubber, say};
use crate::topology::ParseMode;

/// Carries out the command; answers the exit code.
pub fn execute(cli: &Cli) -> u8 {
    let scrubber = Scrubber::default();
    let printer = Printer::new(cli.global.log_format, scrubber.clone());
    if let Err(error) = log::init(cli.global.log_level, printer) {
        say(&format!("host.log: setting up the log: {error}"));
        return 1;
    }
    match &cli.command {
        Command::Run(options) => run::run(&cli.global, options, &scrubber),
        Command::Up(options) => up::run(&cli.global, options, &scrubber),
        Command::Validate(options) => answered(validate_file(&cli.global, options)),
        Command::Graph(options) => answered(draw(&cli.global, options, &scrubber)),
        Command::Checkpoints(options) => {
            answered(checkpoints::run(&cli.global, &options.action, &scrubber))
        }
        Command::Test(options) => answered(test::run(options, &scrubber)),
        Command::Plugins(options) => answered(list_plugins(&cli.global, options)),
    }
}

/// A reader that went away (`weir plugins | head`) is no failure.
fn answered(answer: std::io::Result<u8>) -> u8 {
    match answer {
        Ok(code) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            say(&format!("host.stdout: writing the answer: {error}"));
            1
        }
    }
}

fn validate_file(global: &GlobalOptions, options: &ValidateOptions) -> std::io::Result<u8> {
    let (mut outcome, catalog) = load::load(&global.file, ParseMode::Run);
    if let (true, Ok(topology)) = (options.online, &mut outcome) {
        let report = online::ask(topology, &catalog);
        match report.has_errors() {
            true => outcome = Err(report),
            false => topology.warnings = report,
        }
    }
    let format = match options.format {
        AnswerFormat::Text => validate::Format::Text,
        AnswerFormat::Json => validate::Format::Json,
    };
    validate::validate(
        &outcome,
        format,
        load::is_styled(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )
}

/// Needs the plugin folders of the file and nothing else of it.
fn list_plugins(global: &GlobalOptions, options: &PluginsOptions) -> std::io::Result<u8> {
    let catalog = match load::open_plugins(&global.file) {
        Ok(catalog) => catalog,
        Err(report) => {
            say(report.render(load::is_styled()).trim_end());
            return Ok(2);
        }
    };
    let format = match options.format {
        AnswerFormat::Text => plugins::Format::Text,
        AnswerFormat::Json => plugins::Format::Json,
    };
    let stdout = &mut std::io::stdout();
    let code = plugins::run(
        &catalog,
        options.name.as_deref(),
        format,
        options.schema,
        stdout,
    )?;
    Ok(u8::try_from(code).unwrap_or(1))
}

fn draw(
    global: &GlobalOptions,
    options: &GraphOptions,
    scrubber: &Scrubber,
) -> std::io::Result<u8> {
    let Some((topology, _)) = load::load_or_say(&global.file, ParseMode::Run, scrubber) else {
        return Ok(2);
    };
    let drawing = match options.format {
        GraphFormat::Mermaid => graph::mermaid(&topology),
        GraphFormat::Dot => graph::dot(&topology),
    };
    std::io::stdout().write_all(drawing.as_bytes())?;
    Ok(0)
}
