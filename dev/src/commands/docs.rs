//! `weir-dev docs`: writes the generated reference, or says that it is out of date.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use weir_dev::docs::{outdated, pages, repository};
use weir_dev::host::Build;

#[derive(Debug, Args)]
pub struct Docs {
    /// Writes nothing, and fails if a page is out of date.
    #[arg(long)]
    check: bool,
}

impl Docs {
    pub fn run(&self) -> Result<ExitCode> {
        let root = repository();
        let build = Build::find()?;
        let folders = build.plugins.iter().filter_map(|file| file.parent());
        let mut folders: Vec<_> = folders.map(Path::to_owned).collect();
        folders.dedup();
        let outdated = outdated(&root.join("docs"), pages(&root, &folders)?, !self.check)?;
        let verb = if self.check {
            "is out of date"
        } else {
            "written"
        };
        for page in &outdated {
            eprintln!("weir-dev: docs/{page} {verb}");
        }
        if self.check && !outdated.is_empty() {
            eprintln!("weir-dev: run `make docs` and commit what it writes");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}
