//! `${NAME}`, `${NAME:-default}`, `${file:PATH}` and `$$` inside parsed scalars.
//!
//! The rules are a shell's, without nesting: `:-` also stands in for a variable that is set to
//! nothing, `$$` is one `$`, and a `$` before anything but `{` and `$` stays as it is.

use std::env::VarError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::context::Environment;
use crate::topology::codes::{self, Code};
use crate::topology::words::quoted;

/// Largest `${file:...}`, in bytes. A secret is a password or a key; a PEM chain takes 10 KiB.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Replaced {
    pub text: String,
    /// Whether a `${...}` was replaced.
    pub interpolated: bool,
    /// The contents of files, which must not be printed.
    pub secrets: Vec<String>,
    pub faults: Vec<Fault>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub code: Code,
    pub message: String,
    pub help: String,
}

fn fault(code: Code, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault {
        code,
        message: message.into(),
        help: help.into(),
    }
}

/// Replaces every `${...}` of a text; relative file paths start from `folder`.
pub(super) fn replace(text: &str, environment: &Environment, folder: &Path) -> Replaced {
    let mut replaced = Replaced::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        replaced.text.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            replaced.text.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let Some((inner, tail)) = tail.split_once('}') else {
                replaced.faults.push(fault(
                    codes::INTERPOLATION,
                    "A `${` has no closing `}`.",
                    "Close it, or write `$$` for a dollar sign.",
                ));
                return replaced;
            };
            replaced.put(inner, environment, folder);
            rest = tail;
        } else {
            replaced.text.push('$');
            rest = after;
        }
    }
    replaced.text.push_str(rest);
    replaced
}

impl Replaced {
    fn put(&mut self, inner: &str, environment: &Environment, folder: &Path) {
        self.interpolated = true;
        if let Some(path) = inner.strip_prefix("file:") {
            match read_secret(path, folder) {
                Ok(secret) => {
                    self.text.push_str(&secret);
                    self.secrets.push(secret);
                }
                Err(fault) => self.faults.push(fault),
            }
            return;
        }
        match variable(inner, environment) {
            Ok(value) => self.text.push_str(&value),
            Err(fault) => self.faults.push(fault),
        }
    }
}

fn variable(inner: &str, environment: &Environment) -> Result<String, Fault> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if default.is_some_and(|default| default.contains("${")) {
        return Err(fault(
            codes::INTERPOLATION,
            format!("The default of `${{{name}}}` holds another `${{`."),
            "Use a plain text as the default; `${...}` does not nest.",
        ));
    }
    if !is_name(name) {
        return Err(malformed(name));
    }
    match (environment(name), default) {
        (Ok(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Ok(value), _) => Ok(value),
        (Err(VarError::NotPresent), Some(default)) => Ok(default.to_owned()),
        (Err(VarError::NotPresent), None) => Err(fault(
            codes::UNSET_VARIABLE,
            format!("The environment variable `{name}` is not set."),
            format!("Set it, or give it a default: `\"${{{name}:-default}}\"`."),
        )),
        (Err(VarError::NotUnicode(_)), _) => Err(fault(
            codes::UNSET_VARIABLE,
            format!("The environment variable `{name}` is not UTF-8 text."),
            "Set it to UTF-8 text.",
        )),
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn malformed(inner: &str) -> Fault {
    // `${X-y}`, `${X:y}`, `${X:?y}`: the shell's other operators, or a slip of `:-`.
    let head = inner.split([':', '-', '?', '+', '=']).next().unwrap_or("");
    let help = match head != inner && is_name(head) {
        true => format!("Did you mean `${{{head}:-default}}`?"),
        false => {
            "Write `${NAME}`, `${NAME:-default}` or `${file:/path}`, and `$$` for a dollar sign."
                .into()
        }
    };
    let message = format!("{} is no name of an environment variable.", quoted(inner));
    fault(codes::INTERPOLATION, message, help)
}

/// Reads a secret without its trailing newline.
fn read_secret(path: &str, folder: &Path) -> Result<String, Fault> {
    let refuse = |cause: String, cure: &str| {
        let message = format!("The secret file {} {cause}.", quoted(path));
        fault(codes::SECRET_FILE, message, cure)
    };
    let mut bytes = Vec::new();
    File::open(folder.join(path))
        .and_then(|file| file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            refuse(
                format!("cannot be read: {error}"),
                "Create it, or let the user that runs Weir read it.",
            )
        })?;
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(refuse(
            format!("is larger than {SECRET_FILE_BYTES_MAX} bytes"),
            "Name a file that holds one password or key.",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        refuse(
            "is not UTF-8 text".into(),
            "Store the secret as UTF-8 text.",
        )
    })?;
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |line| {
        line.strip_suffix('\r').unwrap_or(line)
    });
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Result<String, VarError> {
        match name {
            "SET" => Ok("value".into()),
            "EMPTY" => Ok(String::new()),
            _ => Err(VarError::NotPresent),
        }
    }

    fn text(text: &str) -> String {
        let replaced = replace(text, &environment, Path::new("."));
        assert_eq!(replaced.faults, []);
        replaced.text
    }

    fn code(text: &str) -> Code {
        replace(text, &environment, Path::new("."))
            .faults
            .first()
            .map(|fault| fault.code)
            .expect("a fault")
    }

    #[test]
    fn replaces_variables_defaults_and_escapes() {
        assert_eq!(text("a ${SET} b"), "a value b");
        assert_eq!(
            text("${UNSET:-d}${SET:-d}${EMPTY:-d}[${EMPTY}]"),
            "dvalued[]"
        );
        assert_eq!(text("${UNSET:-}"), "");
        assert_eq!(text("$$ $${SET} $x 5$"), "$ ${SET} $x 5$");
        assert_eq!(
            text("${UNSET:-http://localhost:9200}"),
            "http://localhost:9200"
        );
    }

    #[test]
    fn refuses_what_is_malformed_or_unset() {
        assert_eq!(code("${UNSET}"), codes::UNSET_VARIABLE);
        for wrong in [
            "${",
            "${}",
            "${SET",
            "${A-b}",
            "${1A}",
            "${A:-${B}}",
            "${ A }",
        ] {
            assert_eq!(code(wrong), codes::INTERPOLATION, "{wrong}");
        }
        assert_eq!(code("${file:no/such/file}"), codes::SECRET_FILE);
    }

    #[test]
    fn a_file_loses_its_trailing_newline_and_is_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("pw"), "hunter2\n").expect("writes");
        let replaced = replace("x${file:pw}y", &environment, folder.path());
        assert_eq!(replaced.text, "xhunter2y");
        assert_eq!(replaced.secrets, ["hunter2"]);
    }
}
