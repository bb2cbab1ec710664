//! Whether the plugins that the file names are there, and what to say about those that cannot be used.

use std::collections::BTreeSet;

use super::context::{Context, Located};
use crate::topology::codes;
use crate::topology::diagnostic::Finding;
use crate::topology::plugins::{Found, PluginKind, UnusableFile};
use crate::topology::words::{did_you_mean, listed, quoted, sentence};

/// The type built into the host, which no plugin can shadow.
pub(super) const BUILT_IN: &str = "kafka";

/// Whether the plugin is usable as `wanted`; otherwise the reason is noted.
pub(super) fn check(cx: &Context, name: &str, wanted: PluginKind, at: &Located) -> bool {
    if name == BUILT_IN && wanted == PluginKind::Transform {
        let help = "Kafka is a source or a sink; name a transform plugin.";
        cx.note(
            codes::PLUGIN_WRONG_KIND,
            &at.place(),
            "`kafka` is no transform.",
            help,
        );
        return false;
    }
    match cx.plugins.find(name) {
        Found::Known { kind } if kind == wanted => true,
        Found::Known { kind } => {
            let (is, wanted) = (kind.as_str(), wanted.as_str());
            let message = format!(
                "{} is a {is} plugin and stands where a {wanted} is wanted.",
                quoted(name)
            );
            cx.note(
                codes::PLUGIN_WRONG_KIND,
                &at.place(),
                message,
                format!("Move it to `{is}s:`, or name a {wanted} plugin."),
            );
            false
        }
        Found::Refused { file, reason } => {
            let message = format!(
                "The library {} of the plugin {} was refused: {}",
                quoted(&file.display().to_string()),
                quoted(name),
                sentence(&reason)
            );
            cx.note(
                codes::PLUGIN_REFUSED,
                &at.place(),
                message,
                "Rebuild the plugin for this host, or remove the file.",
            );
            false
        }
        Found::Duplicate { files } => {
            let files: Vec<String> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            let message = format!(
                "The plugin {} is offered by {}.",
                quoted(name),
                listed(files.iter().map(String::as_str), "and")
            );
            cx.note(
                codes::PLUGIN_DUPLICATE,
                &at.place(),
                message,
                "Keep one of the files.",
            );
            false
        }
        Found::Missing => {
            note_missing(cx, name, wanted, at);
            false
        }
    }
}

fn note_missing(cx: &Context, name: &str, wanted: PluginKind, at: &Located) {
    let names = cx.plugins.names(wanted);
    let built_in = (wanted == PluginKind::Sink).then_some(BUILT_IN);
    let candidates = || built_in.into_iter().chain(names.iter().map(String::as_str));
    let unnamed: Vec<UnusableFile> = cx
        .plugins
        .unusable()
        .into_iter()
        .filter(|unusable| unusable.names.is_empty())
        .collect();
    let help = did_you_mean(name, candidates()).unwrap_or_else(|| {
        if let Some(file) = unnamed.iter().flat_map(|unusable| &unusable.files).next() {
            return format!("It may be the refused {}; see the warning about that file.", quoted(&file.display().to_string()));
        }
        // The built-in sink is always there, and says nothing about the folders.
        match names.is_empty() {
            true => "Put its library into a folder named under `plugins:`; `make build` builds the ones here.".into(),
            false => format!("Known {}s: {}.", wanted.as_str(), listed(candidates(), "and")),
        }
    });
    let message = format!("There is no {} plugin {}.", wanted.as_str(), quoted(name));
    cx.note(codes::PLUGIN_MISSING, &at.place(), message, help);
}

/// Warns of every library that cannot be used and that no pipeline needs.
pub(super) fn warn_of_unusable(cx: &Context, used: &BTreeSet<String>) {
    if matches!(cx.plugins.find(BUILT_IN), Found::Known { .. }) {
        cx.note_file(Finding::of_file(
            codes::PLUGIN_FILE,
            "A plugin is called `kafka`, which is a type of the host itself, and cannot be used.",
            "Give the plugin another name.",
        ));
    }
    for unusable in cx.plugins.unusable() {
        if unusable.names.iter().any(|name| used.contains(name)) {
            continue;
        }
        let files: Vec<String> = unusable
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let files = listed(files.iter().map(String::as_str), "and");
        cx.note_file(Finding::of_file(
            codes::PLUGIN_FILE,
            format!("{files} cannot be used: {}", sentence(&unusable.reason)),
            "Remove the file or rebuild it; no pipeline of this topology needs it.",
        ));
    }
}
