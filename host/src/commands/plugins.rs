//! `weir plugins`: what the folders of a topology hold, usable or not.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::plugin::{Catalog, Entry, Kind, Replay, Unusable};

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object: `{"plugins": [...], "refused": [...]}`.
    Json,
}

/// Everything listed, or refused.
const DONE: i32 = 0;
/// A file was refused, or no plugin has the name asked for.
const REFUSED: i32 = 2;

/// Lists all plugins, or the one of this name, and answers the exit code. Opens every library that it lists. The schema
/// of one plugin as text is the schema alone, so that it can be piped on.
///
/// # Errors
/// `out` cannot be written.
pub fn run(
    catalog: &Catalog,
    name: Option<&str>,
    format: Format,
    schema: bool,
    out: &mut impl Write,
) -> io::Result<i32> {
    catalog.open_all();
    let asked = |other: &str| name.is_none_or(|name| name == other);
    let mut plugins = Vec::new();
    let mut failed = Vec::new();
    for entry in catalog
        .entries()
        .into_iter()
        .filter(|entry| asked(&entry.name))
    {
        match Listed::of(catalog, entry, schema) {
            Ok(listed) => plugins.push(listed),
            Err(unusable) => failed.push(unusable),
        }
    }
    let mut refused = catalog.unusable();
    refused.extend(failed);
    // A file whose names nobody knows may hold the plugin that was asked for and not found.
    refused.retain(|unusable| {
        unusable.names.iter().any(|name| asked(name))
            || (unusable.names.is_empty() && plugins.is_empty())
            || name.is_none()
    });
    let only = match (name, plugins.as_slice()) {
        (Some(_), [only]) if refused.is_empty() => only.schema.as_ref(),
        _ => None,
    };
    match (format, only) {
        (Format::Text, Some(schema)) => writeln!(out, "{schema:#}")?,
        (Format::Text, None) => text(&plugins, &refused, out)?,
        (Format::Json, _) => json(&plugins, &refused, out)?,
    }
    if let (Some(name), true, true) = (name, plugins.is_empty(), format == Format::Text) {
        writeln!(out, "{}", missing(catalog, name))?;
    }
    let found = refused.is_empty() && (name.is_none() || !plugins.is_empty());
    Ok(if found { DONE } else { REFUSED })
}

struct Listed {
    entry: Entry,
    summary: String,
    /// What the plugin is without any setting; `None` if it has settings that must be given.
    nature: Option<String>,
    schema: Option<Value>,
}

impl Listed {
    fn of(catalog: &Catalog, entry: Entry, schema: bool) -> Result<Self, Unusable> {
        let unusable = |refused: crate::plugin::Refused| Unusable {
            files: vec![refused.file],
            names: vec![entry.name.clone()],
            code: refused.code,
            reason: refused.reason,
            help: refused.help,
        };
        let nothing_set = json!({});
        let name = &entry.name;
        let valid = catalog
            .validate(name, &nothing_set)
            .map_err(unusable)?
            .is_empty();
        let nature = if valid {
            let description = catalog.describe(name, &nothing_set).map_err(unusable)?;
            Some(match (entry.kind, description.replay) {
                (Kind::Transform, _) => description.scope.as_str().to_owned(),
                (Kind::Sink, Replay::Idempotent) => "idempotent".to_owned(),
                (Kind::Sink, Replay::Duplicates) => "duplicates".to_owned(),
            })
        } else {
            None
        };
        Ok(Listed {
            summary: catalog.summary(name).map_err(unusable)?,
            nature,
            schema: if schema {
                Some(catalog.schema(name).map_err(unusable)?)
            } else {
                None
            },
            entry,
        })
    }

    /// A transform has a scope, a sink a replay.
    fn nature_key(&self) -> &'static str {
        match self.entry.kind {
            Kind::Transform => "scope",
            Kind::Sink => "replay",
        }
    }
}

fn text(plugins: &[Listed], refused: &[Unusable], out: &mut impl Write) -> io::Result<()> {
    for listed in plugins {
        let entry = &listed.entry;
        writeln!(
            out,
            "{} ({}) {}: {}",
            entry.name,
            entry.kind.as_str(),
            entry.version,
            listed.summary
        )?;
        writeln!(
            out,
            "  {} {}, ABI {}, rustc {}, {}",
            listed.nature_key(),
            listed
                .nature
                .as_deref()
                .unwrap_or("depends on its settings"),
            entry.abi,
            entry.rustc,
            entry.file.display()
        )?;
        if let Some(schema) = &listed.schema {
            writeln!(out, "{schema:#}")?;
        }
    }
    for unusable in refused {
        let files: Vec<String> = unusable
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        writeln!(
            out,
            "refused {}: {} [{}]\n  {}",
            files.join(", "),
            unusable.reason,
            unusable.code,
            unusable.help
        )?;
    }
    if plugins.is_empty() && refused.is_empty() {
        writeln!(
            out,
            "no plugins: the folders named under `plugins:` hold no `*.so` file"
        )?;
    }
    Ok(())
}

fn json(plugins: &[Listed], refused: &[Unusable], out: &mut impl Write) -> io::Result<()> {
    let plugins: Vec<Value> = plugins
        .iter()
        .map(|listed| {
            let entry = &listed.entry;
            let mut object = json!({
                "name": entry.name, "kind": entry.kind.as_str(), "version": entry.version,
                "abi_version": entry.abi.to_string(), "sdk_version": entry.sdk, "rustc": entry.rustc,
                "crate": entry.crate_name, "description": listed.summary, "file": entry.file.display().to_string(),
                "scope": null, "replay": null,
            });
            if let Value::Object(fields) = &mut object {
                fields.insert(listed.nature_key().to_owned(), json!(listed.nature));
                if let Some(schema) = &listed.schema {
                    fields.insert("schema".to_owned(), schema.clone());
                }
            }
            object
        })
        .collect();
    let refused: Vec<Value> = refused
        .iter()
        .map(|unusable| {
            let files: Vec<String> = unusable
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            json!({
                "files": files, "names": unusable.names, "code": unusable.code,
                "reason": unusable.reason, "help": unusable.help,
            })
        })
        .collect();
    writeln!(out, "{:#}", json!({"plugins": plugins, "refused": refused}))
}

fn missing(catalog: &Catalog, name: &str) -> String {
    let known = catalog.entries();
    let nearest = known
        .iter()
        .map(|entry| (strsim::damerau_levenshtein(name, &entry.name), &entry.name))
        .min();
    // A third of the letters wrong is no longer a slip of the fingers.
    match nearest {
        Some((distance, nearest)) if distance <= name.len().div_ceil(3) => {
            format!("no plugin `{name}`; did you mean `{nearest}`?")
        }
        _ => {
            let names: Vec<&str> = known.iter().map(|entry| entry.name.as_str()).collect();
            format!(
                "no plugin `{name}`; there is {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            )
        }
    }
}
