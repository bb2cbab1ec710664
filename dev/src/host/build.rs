//! Where the host's binary and the plugin libraries of this build lie.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The plugins of the reference job, by the names of their libraries.
const PLUGIN_LIBRARIES: [&str; 3] = [
    "libweir_reduce_visit.so",
    "libweir_latency_window.so",
    "libweir_elasticsearch.so",
];

/// A built host with its plugins.
#[derive(Debug, Clone)]
pub struct Build {
    /// The `weir` binary.
    pub program: PathBuf,
    /// The libraries themselves: a build folder holds other shared objects too.
    pub plugins: Vec<PathBuf>,
}

impl Build {
    /// `$WEIR_BIN` and `$WEIR_PLUGIN_DIR`, else what lies beside this executable.
    pub fn find() -> Result<Build> {
        let program = env::var_os("WEIR_BIN").map(PathBuf::from);
        Self::of(program.unwrap_or(profile_folder()?.join("weir")))
    }

    /// The host that ends itself where `WEIR_KILL_AT` says: `weir-kill-points` beside this executable.
    pub fn with_kill_points() -> Result<Build> {
        Self::of(profile_folder()?.join("weir-kill-points"))
    }

    fn of(program: PathBuf) -> Result<Build> {
        let beside = profile_folder()?;
        let folder = env::var_os("WEIR_PLUGIN_DIR").map_or(beside, PathBuf::from);
        let plugins: Vec<PathBuf> = PLUGIN_LIBRARIES.iter().map(|l| folder.join(l)).collect();
        for file in plugins.iter().chain([&program]) {
            if !file.is_file() {
                bail!(
                    "{} is not there; run `dev/build-kill-points` and `cargo build --workspace` first, or \
                     name another build with WEIR_BIN and WEIR_PLUGIN_DIR",
                    file.display()
                );
            }
        }
        Ok(Build { program, plugins })
    }
}

/// The folder of cargo's profile that this executable was built into; tests lie in its `deps`.
fn profile_folder() -> Result<PathBuf> {
    let executable = env::current_exe().context("this executable has no path")?;
    let folder = executable
        .parent()
        .context("this executable has no folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    Ok(match folder.parent() {
        Some(profile) if is_deps => profile.to_owned(),
        _ => folder.to_owned(),
    })
}
