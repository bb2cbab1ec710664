//! `weir checkpoints`: the state of a pipeline from outside (I3).

mod portable;
mod show;
mod store;

use std::io::Write;
use std::path::Path;

use crate::cli::{AnswerFormat, CheckpointAction, GlobalOptions};
use crate::log::{Scrubber, say};
use crate::topology::{ParseMode, Pipeline};

use super::load::load_or_say;
use super::run::choose;
use store::{Store, StoreError};

/// Done.
const EXIT_OK: u8 = 0;
/// Kafka does not answer, a host is at work, or a file cannot be read or written.
const EXIT_FAILED: u8 = 1;
/// Usage, topology, or a pipeline without state.
const EXIT_REFUSED: u8 = 2;

/// Carries the action out; answers the exit code.
///
/// # Errors
/// The answer cannot be written.
pub fn run(
    global: &GlobalOptions,
    action: &CheckpointAction,
    scrubber: &Scrubber,
) -> std::io::Result<u8> {
    let Some((topology, _)) = load_or_say(&global.file, ParseMode::Run, scrubber) else {
        return Ok(EXIT_REFUSED);
    };
    let pipeline = match choose(&topology, pipeline_of(action)) {
        Ok(pipeline) => pipeline,
        Err(reason) => return Ok(refuse(&reason)),
    };
    if !pipeline.is_stateful() {
        return Ok(refuse(&format!(
            "checkpoints.stateless: no transform of the pipeline `{}` keeps state, so it has no checkpoints",
            pipeline.name
        )));
    }
    match act(pipeline, action) {
        Ok(answer) => {
            std::io::stdout().write_all(answer.as_bytes())?;
            Ok(EXIT_OK)
        }
        Err(error) => {
            say(&error.to_string());
            Ok(EXIT_FAILED)
        }
    }
}

fn refuse(reason: &str) -> u8 {
    say(reason);
    EXIT_REFUSED
}

fn pipeline_of(action: &CheckpointAction) -> Option<&str> {
    match action {
        CheckpointAction::Show { pipeline, .. }
        | CheckpointAction::Export { pipeline, .. }
        | CheckpointAction::Import { pipeline, .. }
        | CheckpointAction::Reset { pipeline, .. } => pipeline.as_deref(),
    }
}

/// Answers what goes to stdout.
fn act(pipeline: &Pipeline, action: &CheckpointAction) -> Result<String, StoreError> {
    let store = Store::open(pipeline)?;
    match action {
        CheckpointAction::Show { format, .. } => {
            let image = store.read_whole()?;
            Ok(match format {
                AnswerFormat::Text => show::text(&image),
                AnswerFormat::Json => show::json(&image),
            })
        }
        CheckpointAction::Export { output, .. } => {
            let text = portable::write(&pipeline.name, &store.read_whole()?);
            match output {
                None => Ok(text),
                Some(file) => {
                    std::fs::write(file, text).map_err(|cause| of_file("writing", file, &cause))?;
                    Ok(String::new())
                }
            }
        }
        CheckpointAction::Import { input, .. } => {
            let text = std::fs::read_to_string(input)
                .map_err(|cause| of_file("reading", input, &cause))?;
            let checkpoints = portable::read(&text, &pipeline.name)
                .map_err(|cause| of_file("reading", input, &cause))?;
            store.check_nobody_is_active()?;
            store.replace_all(checkpoints)
        }
        CheckpointAction::Reset { node, .. } => {
            store.check_nobody_is_active()?;
            match node {
                Some(node) => store.remove_node(node),
                None => store.replace_all(Vec::new()),
            }
        }
    }
}

fn of_file(what: &str, file: &Path, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::File(format!("{what} {}: {cause}", file.display()))
}
