//! The topology file: from YAML to checked pipelines.
//!
//! Two stages. [`Document::read`] says what was written ([`raw`]: positions, no meaning);
//! [`resolve`] says what it means, or everything that is wrong with it at once, as a [`Report`].
//! Between the two the caller opens the plugins that the file's folders hold:
//!
//! ```no_run
//! # use weir::topology::{Document, ParseMode, Plugins, Report, Topology, plugin_dirs, resolve};
//! # fn load(open: impl Fn(Vec<std::path::PathBuf>) -> Box<dyn Plugins>) -> Result<Topology, Report> {
//! let environment = |name: &str| std::env::var(name);
//! let document = Document::read("connectors.yaml".as_ref())?;
//! let plugins = open(plugin_dirs(&document, &environment));
//! let topology = resolve(&document, ParseMode::Run, &environment, plugins.as_ref())?;
//! # Ok(topology)
//! # }
//! ```

pub mod codes;
mod diagnostic;
pub mod kafka;
mod keys;
mod mask;
mod model;
mod plugins;
mod quantity;
pub mod raw;
mod reference;
mod render;
mod resolve;
mod words;

pub use codes::{CODES, Code, CodeDoc, Severity};
pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Report};
pub use mask::MASK;
pub use model::*;
pub use plugins::*;
pub use raw::Document;
pub use reference::reference_markdown;
pub use resolve::{Environment, ParseMode, plugin_dirs, resolve};
