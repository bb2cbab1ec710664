//! The folder of one running server: its data, its configuration, its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Removed with its owner, kept when the owner goes down in a panic or a failed start.
#[derive(Debug)]
pub struct RunDir {
    dir: Option<TempDir>,
    path: PathBuf,
    name: &'static str,
}

impl RunDir {
    pub fn new(name: &'static str) -> Result<RunDir> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("weir-dev-{name}-"))
            .tempdir()
            .context("cannot make a temporary folder; look at TMPDIR")?;
        let path = dir.path().to_owned();
        Ok(RunDir {
            dir: Some(dir),
            path,
            name,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log_path(&self) -> PathBuf {
        self.path.join(format!("{}.log", self.name))
    }

    /// The server's log, opened to append: a restart goes on in the same file.
    pub fn open_log(&self) -> Result<File> {
        let path = self.log_path();
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all.iter()
            .skip(all.len().saturating_sub(lines))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Leaves the folder on disk after the end of this process.
    pub fn keep(&mut self) -> &Path {
        if let Some(dir) = self.dir.take() {
            let _ = dir.keep();
        }
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = self.name;
            eprintln!("{name}: data and log are kept in {}", self.keep().display());
        }
    }
}
