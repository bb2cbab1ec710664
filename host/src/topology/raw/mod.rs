//! First stage: what was written. A tree of scalars, sequences and mappings with the byte range
//! of each, and no meaning.
//!
//! The parser is `saphyr-parser`: YAML 1.2 complete, kept up, pure Rust, and it gives events with
//! positions, so that nesting and alias expansion are bounded while the tree grows. Its own tree
//! (`saphyr`'s `MarkedYaml`) types scalars before Weir knows the field, and merges aliases unbounded.

mod build;
mod read;

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnostic::{Finding, Report};

pub use read::FILE_BYTES_MAX;

/// Byte range in the text of the file.
pub type Span = Range<usize>;

/// A topology file as written.
#[derive(Debug)]
pub struct Document {
    /// The path as the user gave it.
    pub path: PathBuf,
    /// The text without byte order mark. Spans index into it.
    pub text: String,
    /// The value of the file's only document.
    pub root: Node,
    /// Faults of form that leave the tree usable, such as a duplicate key.
    pub(super) findings: Vec<Finding>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value is written; a value that came through an alias keeps its anchor's place.
    pub span: Span,
    /// The value itself.
    pub value: Raw,
}

/// A value without meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// Text; `plain` if it was not quoted and no block scalar.
    Scalar {
        /// The text after YAML's own escapes.
        text: String,
        /// False for quoted and block scalars, which YAML always takes as strings.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file, without duplicate keys.
    Mapping(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Document {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// A report of every `file.*` and `yaml.*` fault if no tree could be made of the file. Faults
    /// that leave a tree are kept and reported by the second stage with everything else.
    pub fn read(path: &Path) -> Result<Document, Report> {
        let text =
            read::read_text(path).map_err(|finding| Report::new(path, "", vec![finding], &[]))?;
        Document::parse(path, text)
    }

    /// Parses text as if it had been read from `path`.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn parse(path: &Path, text: String) -> Result<Document, Report> {
        let mut findings = Vec::new();
        match build::tree(&text, &mut findings) {
            Some(root) => Ok(Document {
                path: path.to_path_buf(),
                text,
                root,
                findings,
            }),
            None => Err(Report::new(path, &text, findings, &[])),
        }
    }
}

#[cfg(test)]
mod tests;
