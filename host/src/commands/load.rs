//! What most commands begin with: the topology file and the plugins it names.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use crate::log::{Scrubber, say};
use crate::plugin::Catalog;
use crate::topology::{Document, ParseMode, Report, Topology, plugin_dirs, resolve};

/// Reads and resolves a file; answers the plugins of its folders as well.
pub fn load(file: &Path, mode: ParseMode) -> (Result<Topology, Report>, Arc<Catalog>) {
    let environment = |name: &str| std::env::var(name);
    match Document::read(file) {
        Err(report) => (Err(report), Arc::new(Catalog::search(&[]))),
        Ok(document) => {
            let catalog = Catalog::search(&plugin_dirs(&document, &environment));
            let topology = resolve(&document, mode, &environment, &catalog);
            (topology, Arc::new(catalog))
        }
    }
}

/// The plugins of a file's folders, whatever else the file says.
///
/// # Errors
/// A file that cannot be read or is no YAML.
pub fn open_plugins(file: &Path) -> Result<Catalog, Report> {
    let environment = |name: &str| std::env::var(name);
    let document = Document::read(file)?;
    Ok(Catalog::search(&plugin_dirs(&document, &environment)))
}

/// As [`load`], for a command that needs a good file: `None` after the errors were printed (exit 2). Secrets of the file
/// are scrubbed from the log from here on.
pub fn load_or_say(
    file: &Path,
    mode: ParseMode,
    scrubber: &Scrubber,
) -> Option<(Topology, Arc<Catalog>)> {
    let (outcome, catalog) = load(file, mode);
    match outcome {
        Ok(topology) => {
            if let Err(error) = scrubber.set_secrets(&topology.secrets) {
                // Rather no log than a log with secrets in it.
                say(&format!("host.log: preparing to scrub secrets: {error}"));
                return None;
            }
            for warning in &topology.warnings.diagnostics {
                let (code, line, message) = (warning.code.as_str(), warning.line, &warning.message);
                tracing::warn!(event = "topology_warning", code, file = %topology.path.display(), line, "{message}");
            }
            Some((topology, catalog))
        }
        Err(report) => {
            say(report.render(is_styled()).trim_end());
            say(&format!("{}: {}", report.file, report.summary()));
            None
        }
    }
}

/// Whether diagnostics on stderr may have colours.
pub fn is_styled() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
