//! What the second stage carries along: the file, the environment, the plugins, and what it found.

use std::cell::RefCell;
use std::env::VarError;
use std::path::{Path, PathBuf};

use super::interpolate;
use crate::topology::codes::{self, Code};
use crate::topology::diagnostic::{DIAGNOSTICS_MAX, Finding, SecretMark};
use crate::topology::mask::MASK;
use crate::topology::plugins::Plugins;
use crate::topology::raw::{Document, Entry, Node, Raw, Span};
use crate::topology::words::quoted;

/// Most findings before suggestions end; ten times what is listed, because the list is cut in the
/// order of the file and the findings come in the order of the checks.
const SUGGESTIONS_MAX: usize = 10 * DIAGNOSTICS_MAX;

/// Where `${NAME}` is looked up; `|name| std::env::var(name)` in production.
pub type Environment<'e> = dyn Fn(&str) -> Result<String, VarError> + 'e;

pub(in crate::topology) struct Context<'a> {
    pub document: &'a Document,
    pub plugins: &'a dyn Plugins,
    environment: &'a Environment<'a>,
    findings: RefCell<Vec<Finding>>,
    secrets: RefCell<Vec<SecretMark>>,
}

/// Where a fault is.
#[derive(Clone, Debug)]
pub(in crate::topology) struct Place {
    pub span: Span,
    pub path: String,
}

/// A value with its way there.
#[derive(Clone, Debug)]
pub(in crate::topology) struct Located<'a> {
    pub node: &'a Node,
    /// The last key of the path; empty for the root and for items.
    pub key: String,
    /// Where the key stands; for items, the value.
    pub key_span: Span,
    pub path: String,
}

impl<'a> Located<'a> {
    pub(super) fn root(node: &'a Node) -> Located<'a> {
        let start = node.span.start;
        Located {
            node,
            key: String::new(),
            key_span: start..start,
            path: String::new(),
        }
    }

    pub(in crate::topology) fn entry(&self, entry: &'a Entry) -> Located<'a> {
        Located {
            node: &entry.value,
            key: entry.key.clone(),
            key_span: entry.key_span.clone(),
            path: extend(&self.path, &entry.key),
        }
    }

    pub(in crate::topology) fn item(&self, at: usize, node: &'a Node) -> Located<'a> {
        Located {
            node,
            key: String::new(),
            key_span: node.span.clone(),
            path: format!("{}[{at}]", self.path),
        }
    }

    /// The value's place.
    pub(in crate::topology) fn place(&self) -> Place {
        Place {
            span: self.node.span.clone(),
            path: self.path.clone(),
        }
    }

    /// The key's place, for faults of the key or of the value as a whole.
    pub(in crate::topology) fn key_place(&self) -> Place {
        Place {
            span: self.key_span.clone(),
            path: self.path.clone(),
        }
    }
}

/// `path.key`, or `path["key"]` where the key has a dot or another character of the path's own.
fn extend(path: &str, key: &str) -> String {
    let simple = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match (simple, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}

/// A scalar after interpolation.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::topology) struct Scalar {
    pub text: String,
    /// Whether a `${...}` was replaced.
    pub interpolated: bool,
    /// Whether the text must not be printed.
    pub secret: bool,
    /// Whether it was written without quotes.
    pub plain: bool,
}

impl Scalar {
    /// The text as a message may show it.
    pub(in crate::topology) fn shown(&self) -> String {
        if self.secret {
            MASK.to_owned()
        } else {
            quoted(&self.text)
        }
    }
}

impl<'a> Context<'a> {
    pub(super) fn new(
        document: &'a Document,
        environment: &'a Environment<'a>,
        plugins: &'a dyn Plugins,
    ) -> Context<'a> {
        let findings = RefCell::new(document.findings.clone());
        Context {
            document,
            plugins,
            environment,
            findings,
            secrets: RefCell::default(),
        }
    }

    pub(in crate::topology) fn note(
        &self,
        code: Code,
        place: &Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.findings.borrow_mut().push(Finding {
            code,
            span: Some(place.span.clone()),
            path: place.path.clone(),
            message: message.into(),
            help: help.into(),
        });
    }

    /// Whether so much is wrong that nobody will read suggestions, which cost the more the longer
    /// the list of known names is.
    pub(in crate::topology) fn is_crowded(&self) -> bool {
        self.findings.borrow().len() > SUGGESTIONS_MAX
    }

    pub(super) fn note_file(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    /// What was found, and the secrets that must not be shown in it.
    pub(super) fn into_findings(self) -> (Vec<Finding>, Vec<SecretMark>) {
        (self.findings.into_inner(), self.secrets.into_inner())
    }

    /// The folder that relative paths of the file start from.
    pub(super) fn folder(&self) -> PathBuf {
        let parent = self.document.path.parent().unwrap_or(Path::new(""));
        std::path::absolute(parent)
            .or_else(|_| std::env::current_dir())
            .unwrap_or_else(|_| parent.to_path_buf())
    }

    /// The entries of a mapping, or a finding.
    pub(in crate::topology) fn mapping(
        &self,
        at: &Located<'a>,
        wanted: &str,
    ) -> Option<&'a [Entry]> {
        match &at.node.value {
            Raw::Mapping(entries) => Some(entries),
            _ => {
                self.wrong_type(
                    at,
                    wanted,
                    "Write `key: value` lines below it, indented by two spaces.",
                );
                None
            }
        }
    }

    /// Whether the value is a mapping without entries.
    pub(super) fn is_empty_mapping(&self, at: &Located) -> bool {
        matches!(&at.node.value, Raw::Mapping(entries) if entries.is_empty())
    }

    /// A scalar with its `${...}` replaced, or a finding.
    pub(in crate::topology) fn scalar(&self, at: &Located, wanted: &str) -> Option<Scalar> {
        self.read_scalar(at, wanted, false)
    }

    /// Keeps a value out of snippets, whatever it is.
    pub(in crate::topology) fn hide(&self, at: &Located) {
        let mark = SecretMark::Place(at.node.span.clone());
        self.secrets.borrow_mut().push(mark);
    }

    /// As [`Context::scalar`], for a field whose value is never printed.
    pub(in crate::topology) fn secret_scalar(&self, at: &Located, wanted: &str) -> Option<Scalar> {
        self.read_scalar(at, wanted, true)
    }

    fn read_scalar(&self, at: &Located, wanted: &str, secret: bool) -> Option<Scalar> {
        let Raw::Scalar { text, plain } = &at.node.value else {
            self.wrong_type(at, wanted, "Write a single value behind the colon.");
            return None;
        };
        if *plain && is_null(text) {
            self.wrong_type(at, wanted, "");
            return None;
        }
        let replaced = interpolate::replace(text, self.environment, &self.folder());
        for fault in &replaced.faults {
            self.note(
                fault.code,
                &at.place(),
                fault.message.clone(),
                fault.help.clone(),
            );
        }
        if !replaced.faults.is_empty() {
            return None;
        }
        let mut marks: Vec<SecretMark> =
            replaced.secrets.into_iter().map(SecretMark::Text).collect();
        let from_file = !marks.is_empty();
        if secret {
            marks.push(SecretMark::Text(replaced.text.clone()));
            if !replaced.interpolated {
                marks.push(SecretMark::Place(at.node.span.clone()));
            }
        }
        self.secrets.borrow_mut().extend(marks);
        Some(Scalar {
            text: replaced.text,
            interpolated: replaced.interpolated,
            secret: secret || from_file,
            plain: *plain,
        })
    }

    /// Notes that a value has another shape than wanted, or is absent.
    pub(in crate::topology) fn wrong_type(&self, at: &Located, wanted: &str, help: &str) {
        let name = match at.key.is_empty() {
            true => "The value".to_owned(),
            false => quoted(&at.key),
        };
        let is = match &at.node.value {
            Raw::Scalar { text, plain: true } if is_null(text) => {
                let message = format!("{name} has no value.");
                let help = format!("Give it {wanted}, or remove the line.");
                return self.note(codes::NO_VALUE, &at.key_place(), message, help);
            }
            Raw::Scalar { .. } => "text",
            Raw::Sequence(_) => "a list",
            Raw::Mapping(_) => "a mapping",
        };
        let message = format!("{name} is {is}, and {wanted} is wanted.");
        self.note(codes::WRONG_TYPE, &at.place(), message, help);
    }
}

/// Whether a plain scalar is YAML 1.2's null.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_bracket_what_is_no_plain_name() {
        assert_eq!(extend("", "kafka"), "kafka");
        assert_eq!(
            extend("kafka", "bootstrap.servers"),
            "kafka[\"bootstrap.servers\"]"
        );
        assert_eq!(extend("a", "b-c_d"), "a.b-c_d");
    }
}
