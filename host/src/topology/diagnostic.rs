//! Diagnostics: what is wrong with a file, where, and what cures it.

use std::ops::Range;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::codes::{self, Code, Severity};
use super::mask;

/// Most diagnostics listed for one file. A person reads a screenful; the bound keeps a mistaken
/// file of a million keys from a report of a million snippets.
pub const DIAGNOSTICS_MAX: usize = 100;

/// One fault of a topology file. Serialized, it is one element of `weir validate --format json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnostic {
    /// Stable dotted code, listed in [`codes::CODES`].
    #[serde(serialize_with = "code_text")]
    pub code: Code,
    /// Error or warning; follows from the code.
    #[serde(serialize_with = "severity_text")]
    pub severity: Severity,
    /// The file as the user named it.
    pub file: String,
    /// 1-based; 0 if the fault concerns the file as a whole.
    pub line: usize,
    /// 1-based, in characters; 0 as `line`.
    pub column: usize,
    /// Path of the value in the file, such as `pipelines.reduce-visits.sinks.x.topic`.
    pub path: String,
    /// One sentence of cause.
    pub message: String,
    /// One sentence of cure.
    pub help: String,
    /// Bytes to underline in [`Report::source`]; they lie in one line.
    #[serde(skip)]
    pub span: Range<usize>,
}

fn code_text<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

fn severity_text<S: Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.as_str())
}

/// A fault as the stages note it, before it has a file, a line and a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub code: Code,
    /// None if the fault concerns the file as a whole.
    pub span: Option<Range<usize>>,
    pub path: String,
    pub message: String,
    pub help: String,
}

impl Finding {
    pub(super) fn of_file(
        code: Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Finding {
        Finding {
            code,
            span: None,
            path: String::new(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Every diagnostic of one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Report {
    /// The file as the user named it.
    pub file: String,
    /// The text of the file with every secret masked, for snippets.
    pub source: String,
    /// Sorted by place, then code.
    pub diagnostics: Vec<Diagnostic>,
}

/// A text that must not be printed, by value or by place.
#[derive(Clone, Debug)]
pub(super) enum SecretMark {
    Text(String),
    Place(Range<usize>),
}

impl Report {
    pub(super) fn new(
        file: &Path,
        text: &str,
        mut findings: Vec<Finding>,
        secrets: &[SecretMark],
    ) -> Report {
        let place = |finding: &Finding| finding.span.as_ref().map_or(0, |span| span.start);
        findings.sort_by(|a, b| {
            (place(a), a.code, &a.path, &a.message).cmp(&(place(b), b.code, &b.path, &b.message))
        });
        findings.dedup_by(|b, a| a.code == b.code && a.span == b.span && a.message == b.message);
        bound(&mut findings);
        let file = file.display().to_string();
        let lines = LineIndex::new(text);
        let diagnostics = findings
            .into_iter()
            .map(|finding| lines.diagnostic(text, &file, finding, secrets))
            .collect();
        Report {
            source: mask::source(text, secrets),
            file,
            diagnostics,
        }
    }

    /// Adds what concerns the file as a whole: found after it was read, and without a line of it.
    pub fn add_of_file(&mut self, code: Code, path: &str, message: &str, help: &str) {
        self.diagnostics.push(Diagnostic {
            code,
            severity: code.severity(),
            file: self.file.clone(),
            line: 0,
            column: 0,
            path: path.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
            span: 0..0,
        });
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Keeps the first faults and says how many are left off, errors before warnings.
fn bound(findings: &mut Vec<Finding>) {
    if findings.len() <= DIAGNOSTICS_MAX {
        return;
    }
    // Stable: the order of the file stays within errors and within warnings.
    findings.sort_by_key(|finding| finding.code.severity());
    let left_off = findings.len() - DIAGNOSTICS_MAX;
    findings.truncate(DIAGNOSTICS_MAX);
    findings.push(Finding::of_file(
        codes::TOO_MANY,
        format!("{left_off} more faults are not listed."),
        "Cure the ones above and run `weir validate` again.",
    ));
}

/// Byte offsets at which lines start.
struct LineIndex {
    starts: Vec<usize>,
}

impl LineIndex {
    fn new(text: &str) -> LineIndex {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        LineIndex {
            starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    fn diagnostic(
        &self,
        text: &str,
        file: &str,
        finding: Finding,
        secrets: &[SecretMark],
    ) -> Diagnostic {
        let (line, column, span) = match finding.span {
            None => (0, 0, 0..0),
            Some(span) => self.locate(text, span),
        };
        Diagnostic {
            code: finding.code,
            severity: finding.code.severity(),
            file: file.to_owned(),
            line,
            column,
            path: mask::text(&finding.path, secrets),
            message: mask::text(&finding.message, secrets),
            help: mask::text(&finding.help, secrets),
            span,
        }
    }

    /// 1-based line and column, and the span cut to its first line.
    fn locate(&self, text: &str, span: Range<usize>) -> (usize, usize, Range<usize>) {
        let start = floor_char_boundary(text, span.start);
        let line = self.starts.partition_point(|at| *at <= start);
        let line_start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let column = text
            .get(line_start..start)
            .map_or(0, |before| before.chars().count())
            + 1;
        let rest = text.get(start..).unwrap_or("");
        let line_end = start + rest.find('\n').unwrap_or(rest.len());
        let end = floor_char_boundary(text, span.end.min(line_end)).max(start);
        let visible = text
            .get(start..end)
            .map_or(0, |shown| shown.trim_end().len());
        (line, column, start..start + visible)
    }
}

/// Largest character boundary of `text` that is not above `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_spans_end_with_their_line() {
        let text = "ä: öü  \nb: c\n";
        let lines = LineIndex::new(text);
        assert_eq!(lines.locate(text, 4..12), (1, 4, 4..8));
        assert_eq!(lines.locate(text, 11..12), (2, 1, 11..12));
        assert_eq!(lines.locate(text, 500..600), (3, 1, 16..16));
    }
}
