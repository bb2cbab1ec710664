//! Printing a report: text with snippets for people, JSON for programs.
//!
//! The printer is `annotate-snippets`, the one rustc uses: kept by the Rust project, no macro on
//! our types, and plain text without colour is its first mode.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::codes::Severity;
use super::diagnostic::{Diagnostic, Report};

impl Report {
    /// Every diagnostic with its line of the file, colourful if `styled`. Ends with a newline
    /// unless there is nothing to say.
    pub fn render(&self, styled: bool) -> String {
        let renderer = match styled {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            text += &renderer.render(&[self.group(diagnostic)]);
            text += "\n\n";
        }
        text
    }

    /// The diagnostics as a JSON array, on one line each.
    pub fn to_json(&self) -> String {
        let rows: Vec<String> = self
            .diagnostics
            .iter()
            .filter_map(|row| serde_json::to_string(row).ok())
            .collect();
        match rows.is_empty() {
            true => "[]".to_owned(),
            false => format!("[\n  {}\n]", rows.join(",\n  ")),
        }
    }

    /// "2 errors, 1 warning".
    pub fn summary(&self) -> String {
        let count = |severity| {
            self.diagnostics
                .iter()
                .filter(|row| row.severity == severity)
                .count()
        };
        let counted = |number: usize, noun: &str| match number {
            0 => None,
            1 => Some(format!("1 {noun}")),
            _ => Some(format!("{number} {noun}s")),
        };
        let parts = [
            counted(count(Severity::Error), "error"),
            counted(count(Severity::Warning), "warning"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            "no errors".to_owned()
        } else {
            parts.join(", ")
        }
    }

    fn group<'r>(&'r self, diagnostic: &'r Diagnostic) -> Group<'r> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level
            .primary_title(diagnostic.message.as_str())
            .id(diagnostic.code.as_str());
        let group = match diagnostic.line {
            0 => Group::with_title(title).element(Level::NOTE.message(format!("in {}", self.file))),
            _ => Group::with_title(title).element(
                Snippet::source(self.source.as_str())
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(diagnostic.span.clone())),
            ),
        };
        let group = match diagnostic.path.is_empty() {
            true => group,
            false => group.element(Level::NOTE.message(format!("at {}", diagnostic.path))),
        };
        group.element(Level::HELP.message(diagnostic.help.as_str()))
    }
}
