//! `weir test`: golden tests of pipelines, without a broker. A folder holds `pipeline.yaml`, `input.jsonl` and
//! `expected.jsonl`; the pipeline runs with its real transforms, its sinks are recorded instead of written.

mod capture;
mod compare;
mod lines;
mod play;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::TestOptions;
use crate::log::Scrubber;
use crate::topology::{ParseMode, Topology};

use super::load;

/// How deep folders are searched for tests: enough for any sane layout, and no loop through links.
const DEPTH_MAX: usize = 8;
const PIPELINE_FILE: &str = "pipeline.yaml";

/// Why a test could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error("test.file: reading {file}: {cause}")]
    File { file: String, cause: io::Error },
    #[error("test.line: {file}:{line}: {message}")]
    Line {
        file: String,
        line: usize,
        message: String,
    },
    #[error("test.pipeline: {file} declares {count} pipelines; a test has one")]
    OnePipeline { file: String, count: usize },
    #[error("{0}")]
    Run(String),
}

enum Verdict {
    Passed,
    Updated,
    Failed(Vec<String>),
    /// The topology was refused; its diagnostics were printed.
    Refused,
}

/// Runs every test below the given paths. Exit code 0 = all passed, 1 = some failed, 2 = some could not be started.
///
/// # Errors
/// Those of stdout.
pub fn run(options: &TestOptions, scrubber: &Scrubber) -> io::Result<u8> {
    let mut stdout = io::stdout();
    let here = [PathBuf::from(".")];
    let paths = if options.paths.is_empty() {
        &here[..]
    } else {
        &options.paths
    };
    let mut folders = Vec::new();
    for path in paths {
        find(path, DEPTH_MAX, &mut folders);
    }
    if folders.is_empty() {
        writeln!(
            stdout,
            "no test found: a test is a folder with {PIPELINE_FILE}, input.jsonl and expected.jsonl"
        )?;
        return Ok(2);
    }
    let (mut passed, mut failed, mut refused) = (0, 0, 0);
    for folder in &folders {
        let name = folder.display();
        match judge(folder, options.update, scrubber) {
            Ok(Verdict::Passed) => {
                passed += 1;
                writeln!(stdout, "ok       {name}")?;
            }
            Ok(Verdict::Updated) => {
                passed += 1;
                writeln!(stdout, "updated  {name}")?;
            }
            Ok(Verdict::Failed(differences)) => {
                failed += 1;
                writeln!(stdout, "FAILED   {name}")?;
                for difference in differences {
                    writeln!(stdout, "    {difference}")?;
                }
            }
            Ok(Verdict::Refused) => {
                refused += 1;
                writeln!(stdout, "REFUSED  {name}")?;
            }
            Err(error) => {
                refused += 1;
                writeln!(stdout, "REFUSED  {name}\n    {error}")?;
            }
        }
    }
    writeln!(stdout, "{passed} passed, {} failed", failed + refused)?;
    Ok(if refused > 0 { 2 } else { u8::from(failed > 0) })
}

/// Folders with a `pipeline.yaml`, sorted.
fn find(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if path.join(PIPELINE_FILE).is_file() {
        found.push(path.to_owned());
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    if depth > 0 {
        folders
            .iter()
            .for_each(|folder| find(folder, depth - 1, found));
    }
}

fn judge(folder: &Path, update: bool, scrubber: &Scrubber) -> Result<Verdict, TestError> {
    let file = folder.join(PIPELINE_FILE);
    let Some((topology, catalog)) = load::load_or_say(&file, ParseMode::Test, scrubber) else {
        return Ok(Verdict::Refused);
    };
    let pipeline = only_pipeline(&topology)?;
    let input = lines::read_input(&folder.join("input.jsonl"), pipeline)?;
    let outputs = play::play(pipeline, catalog, topology.clock_ms, &input)?;
    let expected_file = folder.join("expected.jsonl");
    if update {
        let text = compare::render(&outputs);
        std::fs::write(&expected_file, text).map_err(|cause| TestError::File {
            file: expected_file.display().to_string(),
            cause,
        })?;
        return Ok(Verdict::Updated);
    }
    let expected = lines::read_expected(&expected_file)?;
    let differences = compare::differences(&expected, &outputs);
    Ok(if differences.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Failed(differences)
    })
}

fn only_pipeline(topology: &Topology) -> Result<&crate::topology::Pipeline, TestError> {
    match topology.pipelines.as_slice() {
        [only] => Ok(only),
        several => Err(TestError::OnePipeline {
            file: topology.path.display().to_string(),
            count: several.len(),
        }),
    }
}
