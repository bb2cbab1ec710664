//! What stands on each page.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weir::checkpoint::LIMITS as CHECKPOINT_LIMITS;
use weir::codes::RUNTIME_CODES;
use weir::metrics::catalogue_markdown;
use weir::plugin::{Catalog, code};
use weir::task::LIMITS;
use weir::topology::reference_markdown;

use super::Page;
use super::schema;

const NOTE: &str =
    "<!-- Made by `make docs` from the declarations in the code. Do not edit. -->\n\n";

/// Every page. `libraries` are the folders that hold this build's plugins; `repository` is where their sources lie.
pub fn pages(repository: &Path, libraries: &[PathBuf]) -> Result<Vec<Page>> {
    let of_plugins = PluginFolder::all(&repository.join("plugins"))?;
    let page = |file, text: String| Page {
        file,
        text: format!("{NOTE}{text}"),
    };
    Ok(vec![
        page("topology.md", reference_markdown()),
        page("plugins.md", plugins(&of_plugins, libraries)?),
        page("error-codes.md", error_codes(&of_plugins)),
        page("metrics.md", metrics()),
        page("limits.md", limits()),
    ])
}

/// A plugin of this repository: a folder whose README ends in a table of codes. Its name is the plugin's.
struct PluginFolder {
    name: String,
    readme: String,
}

impl PluginFolder {
    fn all(folder: &Path) -> Result<Vec<PluginFolder>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).context("cannot list the plugins")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let readme = fs::read_to_string(entry.path().join("README.md"));
            let plugin = readme.map(|readme| PluginFolder { name, readme });
            // The ABI and the SDK lie there too, and refuse no record.
            found.extend(plugin.ok().filter(|plugin| plugin.codes().next().is_some()));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The rows `| `code` | cause |` whose code begins with the plugin's name.
    fn codes(&self) -> impl Iterator<Item = &str> {
        let begin = format!("| `{}.", self.name);
        let lines = self.readme.lines();
        lines.filter(move |line| line.starts_with(&begin))
    }
}

fn plugins(folders: &[PluginFolder], libraries: &[PathBuf]) -> Result<String> {
    let catalog = Catalog::search(libraries);
    let mut page = String::from(
        "# Settings of the plugins\n\nThey stand under `config:` of a transform or sink. `weir plugins NAME --schema` prints the JSON Schema that this page\n\
         is made from, for these and for any other plugin. Durations are written `500ms`, `10s`, `1m`, `2h`; sizes `64KiB`, `1MiB`.\n",
    );
    for folder in folders {
        let name = &folder.name;
        let entry = catalog
            .entries()
            .into_iter()
            .find(|entry| entry.name == *name);
        let entry = entry.with_context(|| {
            format!("no built plugin `{name}`; run `cargo build --workspace` first")
        })?;
        let (summary, schema) = (catalog.summary(name)?, catalog.schema(name)?);
        // Writing into a String cannot fail.
        let _ = write!(
            page,
            "\n## {} `{name}`\n\n{summary}. More: [plugins/{name}](../plugins/{name}/README.md).\n\n{}",
            entry.kind.as_str(),
            schema::table(&schema)
        );
    }
    Ok(page)
}

fn error_codes(folders: &[PluginFolder]) -> String {
    let mut page = String::from(
        "# Error codes\n\nCodes are stable: scripts may match on them. Mistakes in the topology file have codes of their own, at the end of\n\
         [topology.md](topology.md#diagnostics).\n\n## While it runs\n\nIn the last line on stderr, in the log, in `/readyz`, and in the header \
         `__connect.errors.exception.class.name` of dead letters.\n\n| code | meaning | what follows |\n|---|---|---|\n",
    );
    for row in RUNTIME_CODES {
        let _ = writeln!(page, "| `{}` | {} | {} |", row.code, row.meaning, row.then);
    }
    page += "\n## Refused plugin files\n\nListed by `weir plugins`.\n\n| code | meaning | cure |\n|---|---|---|\n";
    for (refusal, meaning) in code::REFUSALS {
        let _ = writeln!(
            page,
            "| `{refusal}` | {meaning} | {} |",
            code::help(refusal)
        );
    }
    for folder in folders {
        let name = &folder.name;
        let codes: Vec<&str> = folder.codes().collect();
        let _ = write!(
            page,
            "\n## Records that `{name}` refuses\n\n| code | cause |\n|---|---|\n{}\n",
            codes.join("\n")
        );
    }
    page
}

fn metrics() -> String {
    format!(
        "# Metrics\n\n`/metrics` answers in Prometheus' text format. A host serves its own pipeline, `weir up` all of its hosts together.\n\n\
         At any quiet moment the account balances: `sum(weir_source_records_total)` = `sum(weir_records_settled_total)` + \
         `sum(weir_records_pending)`.\n\n{}",
        catalogue_markdown()
    )
}

fn limits() -> String {
    let mut page = String::from(
        "# Limits of a task\n\nEvery queue, batch and retry has a bound. Plugins have bounds of their own, among their settings.\n\n\
         | what | bound | reason |\n|---|---|---|\n",
    );
    for (what, bound, reason) in LIMITS.iter().chain(CHECKPOINT_LIMITS) {
        let _ = writeln!(page, "| {what} | {bound} | {reason} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sources(folder: &Path, text: &mut String) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                sources(&path, text)?;
            } else if name.ends_with(".rs") && !name.contains("test") {
                *text += &fs::read_to_string(&path)?;
            }
        }
        Ok(())
    }

    /// `plugin.word` in quotes, wherever it stands.
    fn codes_of_source(name: &str, text: &str) -> BTreeSet<String> {
        let begin = format!("{name}.");
        let literals = text
            .split('"')
            .filter(|literal| literal.starts_with(&begin));
        let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        literals
            .filter(|literal| literal.chars().all(is_code))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_plugins_readme_names_every_code_of_its_source() -> Result<()> {
        let plugins = super::super::repository().join("plugins");
        let folders = PluginFolder::all(&plugins)?;
        assert!(folders.len() >= 3, "the plugins have READMEs");
        for folder in folders {
            let mut text = String::new();
            sources(&plugins.join(&folder.name).join("src"), &mut text)?;
            let used = codes_of_source(&folder.name, &text);
            let is_named = |code: &&String| !folder.readme.contains(&format!("`{code}`"));
            let missing: Vec<&String> = used.iter().filter(is_named).collect();
            assert!(missing.is_empty(), "{}: {missing:?}", folder.name);
            assert!(!used.is_empty(), "{}", folder.name);
        }
        Ok(())
    }
}
