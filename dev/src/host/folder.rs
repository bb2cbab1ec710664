//! A folder to run hosts in: `connectors.yaml` and `plugins.d` beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::build::Build;

/// Removed with this value.
#[derive(Debug)]
pub struct Folder {
    dir: TempDir,
    build: Build,
}

impl Folder {
    /// A folder with this topology; the plugins of this build lie in its `plugins.d`.
    pub fn with_topology(yaml: &str) -> Result<Folder> {
        Folder::of(yaml, Build::find()?)
    }

    /// Another folder with the same topology, for hosts of another build.
    pub fn with_program(&self, build: &Build) -> Result<Folder> {
        Folder::of(&fs::read_to_string(self.topology())?, build.clone())
    }

    fn of(yaml: &str, build: Build) -> Result<Folder> {
        let folder = Folder {
            dir: tempfile::Builder::new()
                .prefix("weir-dev-host-")
                .tempdir()?,
            build,
        };
        let plugins = folder.dir.path().join("plugins.d");
        fs::create_dir(&plugins)?;
        for library in &folder.build.plugins {
            let name = library.file_name().context("a library without a name")?;
            symlink(fs::canonicalize(library)?, plugins.join(name))?;
        }
        folder.write_topology(yaml)?;
        Ok(folder)
    }

    /// Replaces the topology; a host that is started later reads the new one.
    pub fn write_topology(&self, yaml: &str) -> Result<()> {
        fs::write(self.topology(), yaml).context("cannot write the topology")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn topology(&self) -> PathBuf {
        self.dir.path().join("connectors.yaml")
    }

    pub fn program(&self) -> &Path {
        &self.build.program
    }
}
