//! Second stage: what the file means. Reads the tree as `keys.rs` declares it, replaces `${...}`,
//! and checks every rule. It reads no file but the secrets that the topology names, and contacts
//! nothing.

pub(in crate::topology) mod context;
mod delivery;
mod fields;
mod graph;
mod interpolate;
mod nodes;
mod pipeline;
mod plugin_config;
mod plugin_use;
mod schema;
mod schema_errors;

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

pub use context::Environment;
use context::{Context, Located};
use fields::Fields;

use super::codes::{self, Severity};
use super::diagnostic::{Report, SecretMark};
use super::kafka::Layer;
use super::keys;
use super::model::{HttpListen, Secrets, Topology};
use super::plugins::{Describe, Found, PluginConfigError, PluginKind, Plugins, UnusableFile};
use super::raw::Document;

/// What the file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseMode {
    /// A topology to run.
    Run,
    /// The `pipeline.yaml` of a pipeline test, which may say where the clock stands.
    Test,
}

/// The absolute plugin folders of a file, for opening the plugins that [`resolve`] asks for. A
/// folder that is written wrongly is left out here and reported by [`resolve`].
pub fn plugin_dirs(document: &Document, environment: &Environment) -> Vec<PathBuf> {
    let cx = Context::new(document, environment, &NoPlugins);
    match Fields::open(&cx, Located::root(&document.root), &keys::FILE) {
        Some(fields) => folders(&cx, &fields),
        None => Vec::new(),
    }
}

/// Resolves a file.
///
/// # Errors
/// Every fault of the file at once, those of the first stage included.
pub fn resolve(
    document: &Document,
    mode: ParseMode,
    environment: &Environment,
    plugins: &dyn Plugins,
) -> Result<Topology, Report> {
    let cx = Context::new(document, environment, plugins);
    let topology = file(&cx, mode);
    let (findings, marks) = cx.into_findings();
    let refused = findings
        .iter()
        .any(|finding| finding.code.severity() == Severity::Error);
    let report = Report::new(&document.path, &document.text, findings, &marks);
    match topology {
        Some(mut topology) if !refused => {
            topology.secrets = secrets(marks);
            topology.warnings = report;
            Ok(topology)
        }
        _ => Err(report),
    }
}

/// The secret texts, each once, the longest first: replacing a part of a longer secret before the
/// whole would leave the rest of it readable.
fn secrets(marks: Vec<SecretMark>) -> Secrets {
    let texts = marks.into_iter().filter_map(|mark| match mark {
        SecretMark::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    });
    let mut texts: Vec<String> = texts.collect::<BTreeSet<String>>().into_iter().collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    Secrets(texts)
}

fn file(cx: &Context, mode: ParseMode) -> Option<Topology> {
    let block = match mode {
        ParseMode::Run => &keys::FILE,
        ParseMode::Test => &keys::TEST_FILE,
    };
    let fields = Fields::open(cx, Located::root(&cx.document.root), block)?;
    version(cx, &fields);
    let plugin_dirs = folders(cx, &fields);
    warn_of_missing_folders(cx, &fields);
    let clock_ms = match mode {
        ParseMode::Run => None,
        ParseMode::Test => clock(cx, &fields),
    };
    let top = fields
        .find(&keys::KAFKA)
        .map(|at| Layer::read(cx, &at))
        .unwrap_or_default();
    let http = http(cx, &fields);
    let drafts = pipeline::read_all(cx, &fields, &top);
    delivery::check_groups(cx, &drafts);
    // A pipeline test contacts no broker.
    if mode == ParseMode::Run {
        delivery::check_bootstrap(cx, &fields, &drafts);
    }
    let mut used = BTreeSet::new();
    for draft in &drafts {
        used.extend(draft.plugins());
    }
    plugin_use::warn_of_unusable(cx, &used);
    Some(Topology {
        path: cx.document.path.clone(),
        plugin_dirs,
        http,
        pipelines: drafts
            .into_iter()
            .filter_map(|draft| draft.finish(cx, &top))
            .collect(),
        clock_ms,
        secrets: Secrets::default(),
        warnings: Report::default(),
    })
}

fn version(cx: &Context, fields: &Fields) {
    let Some(at) = fields.find(&keys::VERSION) else {
        return;
    };
    let Some(scalar) = cx.scalar(&at, "an integer") else {
        return;
    };
    let known = keys::VERSION.kind.max;
    if scalar.text != known.to_string() {
        let message = format!(
            "This host does not know version {} of the file format.",
            scalar.shown()
        );
        cx.note(
            codes::VERSION,
            &at.place(),
            message,
            format!("Write `version: {known}`."),
        );
    }
}

fn folders(cx: &Context, fields: &Fields) -> Vec<PathBuf> {
    let folder = cx.folder();
    let folders = fields.texts(&keys::PLUGINS).into_iter();
    // Joining with an absolute path yields that path; `components` drops a `./`.
    folders
        .map(|(text, _)| folder.join(text.text).components().collect())
        .collect()
}

fn warn_of_missing_folders(cx: &Context, fields: &Fields) {
    let folder = cx.folder();
    for (text, at) in fields.texts(&keys::PLUGINS) {
        if !folder.join(&text.text).is_dir() {
            let message = format!("The plugin folder {} does not exist.", text.shown());
            let help = "Create it and put plugin libraries there (`make build` does so for the ones here), or remove it from `plugins`.";
            cx.note(codes::PLUGIN_FOLDER, &at.place(), message, help);
        }
    }
}

fn http(cx: &Context, fields: &Fields) -> HttpListen {
    let block = fields.find(&keys::HTTP);
    let Some(block) = block.and_then(|at| Fields::open(cx, at, &keys::HTTP_BLOCK)) else {
        return HttpListen::Unset;
    };
    let Some((text, at)) = block.text(&keys::LISTEN) else {
        return HttpListen::Unset;
    };
    text.text.parse().unwrap_or_else(|_| {
        let message = format!("{} is neither `off` nor an address.", text.shown());
        let help = "Write `IP:PORT`, for example `127.0.0.1:8083` or `0.0.0.0:8083`, or `off`.";
        cx.note(codes::HTTP_LISTEN, &at.place(), message, help);
        HttpListen::Unset
    })
}

/// RFC 3339 or a whole number of unix milliseconds.
fn clock(cx: &Context, fields: &Fields) -> Option<i64> {
    let (text, at) = fields.text(&keys::CLOCK)?;
    let from_number = || Timestamp::from_millisecond(text.text.parse().ok()?).ok();
    let from_text = || text.text.parse::<Timestamp>().ok();
    let time = from_number().or_else(from_text);
    if time.is_none() {
        let message = format!("{} is no time.", text.shown());
        let help = "Write an RFC 3339 time such as `2024-09-10T13:37:00Z`, or unix milliseconds.";
        cx.note(codes::BAD_CLOCK, &at.place(), message, help);
    }
    time.map(Timestamp::as_millisecond)
}

/// Notes that a mapping which needs an entry has none.
fn note_empty(cx: &Context, at: &Located, code: codes::Code, message: &str, help: &str) {
    cx.note(code, &at.key_place(), message, help);
}

/// No plugin at all: [`plugin_dirs`] asks before there can be any.
struct NoPlugins;

impl Plugins for NoPlugins {
    fn find(&self, _: &str) -> Found {
        Found::Missing
    }
    fn names(&self, _: PluginKind) -> Vec<String> {
        Vec::new()
    }
    fn unusable(&self) -> Vec<UnusableFile> {
        Vec::new()
    }
    fn schema(&self, _: &str) -> Option<Value> {
        None
    }
    fn validate(&self, _: &str, _: &Value) -> Vec<PluginConfigError> {
        Vec::new()
    }
    fn describe(&self, name: &str, _: &Value) -> Result<Describe, Vec<PluginConfigError>> {
        let message = format!("There is no plugin `{name}`.");
        Err(vec![PluginConfigError {
            path: String::new(),
            message,
        }])
    }
}
