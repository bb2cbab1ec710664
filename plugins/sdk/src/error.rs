use std::time::Duration;

use weir_plugin_api::{TargetFinding, severity};

/// What went wrong in a call. `?` on any standard error makes an [`Error::Record`].
///
/// Does not implement `std::error::Error`, which would forbid that conversion.
#[derive(Debug)]
pub enum Error {
    /// This record cannot be processed, now or ever: the pipeline's `on_error` takes it, the rest goes on.
    Record {
        /// Stable dotted code, `plugin.reason`.
        code: String,
        /// One sentence that names the field or the limit.
        message: String,
        /// The chain of causes, or empty.
        detail: String,
    },
    /// Nothing is wrong with the record: call again with it after `retry_after` (`None`: the host chooses).
    Retryable {
        message: String,
        retry_after: Option<Duration>,
    },
    /// The instance cannot go on.
    Fatal { code: String, message: String },
}

impl Error {
    /// A record that cannot be processed. `code` is stable and dotted: `mask.too_long`.
    pub fn record(code: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Record {
            code: code.into(),
            message: message.into(),
            detail: String::new(),
        }
    }

    pub fn retryable(message: impl Into<String>) -> Self {
        Error::Retryable {
            message: message.into(),
            retry_after: None,
        }
    }

    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Fatal {
            code: code.into(),
            message: message.into(),
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut detail = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            if !detail.is_empty() {
                detail.push_str(": ");
            }
            detail.push_str(&cause.to_string());
            source = cause.source();
        }
        Error::Record {
            code: "plugin.record_error".into(),
            message: error.to_string(),
            detail,
        }
    }
}

/// Collects what a sink finds out about its target.
#[derive(Debug, Default)]
pub struct Findings {
    pub(crate) found: Vec<TargetFinding>,
}

impl Findings {
    /// Nothing can be written until it is repaired. One sentence of cause, one of cure; no secrets.
    pub fn error(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.add(severity::ERROR, message.into(), help.into());
    }

    /// It may do harm later.
    pub fn warning(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.add(severity::WARNING, message.into(), help.into());
    }

    /// (is an error, message, help) of each finding.
    pub fn iter(&self) -> impl Iterator<Item = (bool, &str, &str)> {
        self.found.iter().map(|finding| {
            let is_error = finding.severity == severity::ERROR;
            (is_error, finding.message.as_str(), finding.help.as_str())
        })
    }

    fn add(&mut self, severity: u32, message: String, help: String) {
        self.found.push(TargetFinding {
            severity,
            message: message.into(),
            help: help.into(),
        });
    }
}

/// Collects what is wrong with a configuration, each with the setting it concerns.
#[derive(Debug, Default)]
pub struct Errors {
    pub(crate) found: Vec<(String, String)>,
}

impl Errors {
    /// `path` is the setting's name, with dots into objects (`batch.records`); empty for the whole.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        let pointer = if path.is_empty() {
            String::new()
        } else {
            format!("/{}", path.replace('.', "/"))
        };
        self.found.push((pointer, message.into()));
    }

    /// Adds the error unless `holds`.
    pub fn check(&mut self, holds: bool, path: &str, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// (JSON pointer, message) of each error.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.found
            .iter()
            .map(|(path, message)| (path.as_str(), message.as_str()))
    }
}
