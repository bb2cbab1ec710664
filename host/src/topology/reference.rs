//! The reference page of the topology file, made from the declarations the parser uses.

use std::fmt::Write;

use super::codes::CODES;
use super::kafka::{DEFAULTS, OWNED};
use super::keys::{Absent, BLOCKS};

/// Every key of the file with type, default and meaning, Weir's Kafka defaults, the properties
/// that the host owns, and every diagnostic code, as markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from(PREFACE);
    for block in BLOCKS {
        let title = match block.path {
            "" => "The file".to_owned(),
            path => format!("`{path}`"),
        };
        line(
            &mut page,
            &format!("\n## {title}\n\n| key | type | default | meaning |\n|---|---|---|---|"),
        );
        for key in block.keys {
            let absent = match key.absent() {
                Absent::Required => "required".to_owned(),
                Absent::Default(text) => format!("`{text}`"),
                Absent::Optional(text) => text.to_owned(),
            };
            line(
                &mut page,
                &format!(
                    "| `{}` | {} | {absent} | {} |",
                    key.name(),
                    key.kind(),
                    key.doc()
                ),
            );
        }
    }
    line(
        &mut page,
        "\n## Kafka properties\n\nWeir's defaults where they differ from librdkafka's:\n",
    );
    line(&mut page, "| property | default | reason |\n|---|---|---|");
    for (name, value, reason) in DEFAULTS {
        line(&mut page, &format!("| `{name}` | `{value}` | {reason} |"));
    }
    line(
        &mut page,
        "\nProperties that the host sets itself and a file may not:\n\n| property | instead |\n|---|---|",
    );
    for (name, cure) in OWNED {
        line(&mut page, &format!("| `{name}` | {cure} |"));
    }
    line(
        &mut page,
        "\n## Diagnostics\n\n| code | severity | meaning |\n|---|---|---|",
    );
    for row in CODES {
        let severity = if row.warning { "warning" } else { "error" };
        line(
            &mut page,
            &format!("| `{}` | {severity} | {} |", row.code, row.doc),
        );
    }
    page
}

fn line(page: &mut String, text: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(page, "{text}");
}

const PREFACE: &str = "\
# Topology file

Relative paths start from the file's folder. Durations are a whole number and a unit: `500ms`, `10s`, `1m`, `2h`.
Names of pipelines and nodes match `[a-z0-9][a-z0-9_-]{0,63}`.

In every value `${NAME}` is replaced by an environment variable, `${NAME:-default}` has a default for one that is
unset or empty, `${file:/path}` is the text of a file without its trailing newline and counts as a secret, and `$$`
is a dollar sign. Inside `{ }` and `[ ]` quote such a value.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{keys, quantity};

    #[test]
    fn lists_every_key_once_with_its_meaning() {
        let page = reference_markdown();
        for block in BLOCKS {
            let mut names: Vec<_> = block.keys.iter().map(|key| key.name()).collect();
            for key in block.keys {
                assert!(key.doc().ends_with('.'), "{}", key.name());
                assert!(page.contains(&format!("| `{}` | {} |", key.name(), key.kind())));
            }
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), block.keys.len(), "{}", block.noun);
        }
    }

    #[test]
    fn defaults_and_bounds_of_durations_can_be_read() {
        for key in [
            &keys::CHECKPOINT_INTERVAL,
            &keys::SHUTDOWN_TIMEOUT,
            &keys::RETRY_TIMEOUT,
            &keys::MAX_DISORDER,
            &keys::IDLE_GRACE,
            &keys::MAX_FUTURE,
        ] {
            let read =
                |text| quantity::duration(text).unwrap_or_else(|| panic!("{}: {text}", key.name));
            let bounds = read(key.kind.min)..=read(key.kind.max);
            if let Absent::Default(text) = key.absent {
                assert!(bounds.contains(&read(text)), "{}", key.name);
            }
        }
    }
}
