//! `weir validate`: every fault of a topology file at once.

use std::io::{self, Write};

use crate::topology::{Report, Topology};

/// The file is accepted.
pub const EXIT_OK: u8 = 0;
/// The file is refused.
pub const EXIT_REFUSED: u8 = 2;

/// How the answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Diagnostics with snippets on stderr, one line on stdout.
    Text,
    /// A JSON array of every diagnostic on stdout.
    Json,
}

/// Prints what resolving a file gave and returns the exit code. `styled`: colour in the
/// diagnostics; give false where stderr is no terminal or `NO_COLOR` is set.
///
/// # Errors
/// Those of the two writers.
pub fn validate(
    outcome: &Result<Topology, Report>,
    format: Format,
    styled: bool,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<u8> {
    let report = match outcome {
        Ok(topology) => &topology.warnings,
        Err(report) => report,
    };
    match format {
        Format::Json => writeln!(stdout, "{}", report.to_json())?,
        Format::Text => {
            write!(stderr, "{}", report.render(styled))?;
            match outcome {
                Ok(topology) => writeln!(stdout, "{}", accepted(topology))?,
                Err(report) => writeln!(stderr, "{}: {}", report.file, report.summary())?,
            }
        }
    }
    Ok(if outcome.is_ok() {
        EXIT_OK
    } else {
        EXIT_REFUSED
    })
}

fn accepted(topology: &Topology) -> String {
    let names: Vec<&str> = topology
        .pipelines
        .iter()
        .map(|pipeline| pipeline.name.as_str())
        .collect();
    let noun = if names.len() == 1 {
        "pipeline"
    } else {
        "pipelines"
    };
    let warnings = match topology.warnings.diagnostics.is_empty() {
        true => String::new(),
        false => format!("; {}", topology.warnings.summary()),
    };
    format!(
        "{}: ok, {} {noun} ({}){warnings}",
        topology.path.display(),
        names.len(),
        names.join(", ")
    )
}
