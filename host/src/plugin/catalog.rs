//! Which plugin stands in which file. Listing runs no foreign code; a library is opened when one of its plugins is
//! asked for, once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use weir_plugin_api::abi_stable::std_types::RStr;
use weir_plugin_api::{CreateContext, PluginDeclRef, PluginError};

use super::Kind;
use super::config::{self, ConfigError, Description, TargetFinding};
use super::inspect::inspect;
use super::instance::{CallError, Creation, SinkInstance, TransformInstance};
use super::load::load;
use super::manifest::{AbiVersion, Manifest};
use super::refused::{Fault, Refused, code};

/// The plugins of some folders.
#[derive(Default)]
pub struct Catalog {
    files: Vec<Library>,
    /// Refused when they were listed.
    refused: Vec<Refused>,
    by_name: BTreeMap<String, Vec<Place>>,
}

/// A file that inspection let pass.
struct Library {
    file: PathBuf,
    manifest: Manifest,
    opened: OnceLock<Result<Vec<PluginDeclRef>, Refused>>,
}

#[derive(Clone, Copy)]
struct Place {
    kind: Kind,
    /// Index into `Catalog::files`.
    library: usize,
    /// Index into the library's plugins.
    plugin: usize,
}

/// A usable plugin, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    /// Version of its crate.
    pub version: String,
    pub abi: AbiVersion,
    pub sdk: String,
    pub rustc: String,
    pub crate_name: String,
    pub file: PathBuf,
}

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Known(Kind),
    Refused(Refused),
    /// Several files offer it, and none of them is taken: which one wins must not depend on the order of folders.
    Duplicate(Vec<PathBuf>),
    Missing,
}

/// Something in the folders that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// More than one where they offer the same name.
    pub files: Vec<PathBuf>,
    /// Plugins that cannot be used for it; empty where the file does not say.
    pub names: Vec<String>,
    /// Stable dotted code.
    pub code: &'static str,
    /// One sentence that names both sides.
    pub reason: String,
    /// One sentence of cure.
    pub help: &'static str,
}

/// Code of a name that several files offer.
const DUPLICATE: &str = "plugin.duplicate";

impl Catalog {
    /// Looks at every `*.so` that stands directly in one of the folders. A folder that does not exist holds none.
    pub fn search(folders: &[PathBuf]) -> Self {
        let mut catalog = Catalog::default();
        let mut seen = BTreeSet::new();
        for folder in folders {
            for file in catalog.libraries_in(folder) {
                // Two ways to one file are no duplicate.
                let real = file.canonicalize().unwrap_or_else(|_| file.clone());
                if seen.insert(real) {
                    catalog.add(file);
                }
            }
        }
        catalog
    }

    fn libraries_in(&mut self, folder: &Path) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
        });
        match listed {
            Ok(mut files) => {
                files.retain(|file| file.extension().is_some_and(|extension| extension == "so"));
                files.sort();
                files
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let reason = format!(
                    "the folder cannot be listed ({error}), and this host looks for plugins in it"
                );
                self.refused
                    .push(Fault::new(code::UNREADABLE, reason).of(folder));
                Vec::new()
            }
        }
    }

    fn add(&mut self, file: PathBuf) {
        let manifest = match inspect(&file) {
            Ok(inspected) => inspected.manifest,
            Err(refused) => return self.refused.push(refused),
        };
        let library = self.files.len();
        for (plugin, (kind, name)) in manifest.plugins.iter().enumerate() {
            let place = Place {
                kind: *kind,
                library,
                plugin,
            };
            self.by_name.entry(name.clone()).or_default().push(place);
        }
        self.files.push(Library {
            file,
            manifest,
            opened: OnceLock::new(),
        });
    }

    /// What stands behind a name; opens its library.
    pub fn find(&self, name: &str) -> Found {
        match self.place(name) {
            Err(found) => found,
            Ok((place, library)) => match library.open() {
                Ok(_) => Found::Known(place.kind),
                Err(refused) => Found::Refused(refused.clone()),
            },
        }
    }

    /// Names of one kind, sorted, without duplicates and without libraries that were refused so far.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.entries()
            .into_iter()
            .filter(|entry| entry.kind == kind)
            .map(|entry| entry.name)
            .collect()
    }

    /// Every plugin that may be used as far as is known, by name. Opens nothing.
    pub fn entries(&self) -> Vec<Entry> {
        let names = self.by_name.keys();
        let usable = names.filter_map(|name| {
            let (place, library) = self.place(name).ok()?;
            library
                .refusal()
                .is_none()
                .then(|| library.entry(name, place))
        });
        usable.collect()
    }

    /// Opens every library whose plugins may be used, so that [`Catalog::unusable`] is complete.
    pub fn open_all(&self) {
        for name in self.by_name.keys() {
            self.find(name);
        }
    }

    /// What cannot be used: refused files in the order of the folders, then duplicates by name. Knows the libraries
    /// that were opened so far; see [`Catalog::open_all`].
    pub fn unusable(&self) -> Vec<Unusable> {
        let of = |refused: &Refused, names: Vec<String>| Unusable {
            files: vec![refused.file.clone()],
            names,
            code: refused.code,
            reason: refused.reason.clone(),
            help: refused.help,
        };
        let listed = self.refused.iter().map(|refused| of(refused, Vec::new()));
        let opened = self.files.iter().filter_map(|library| {
            let names = library.manifest.plugins.iter();
            Some(of(
                library.refusal()?,
                names.map(|(_, name)| name.clone()).collect(),
            ))
        });
        let duplicates = self.by_name.iter().filter_map(|(name, places)| {
            let files = self.files_of(places);
            (places.len() > 1).then(|| Unusable {
                reason: format!(
                    "{} files offer the plugin `{name}`, and this host takes a name from one file only",
                    files.len()
                ),
                files,
                names: vec![name.clone()],
                code: DUPLICATE,
                help: "Keep one of the files.",
            })
        });
        listed.chain(opened).chain(duplicates).collect()
    }

    /// JSON Schema of a plugin's configuration.
    ///
    /// # Errors
    /// The plugin cannot be used, or panics.
    pub fn schema(&self, name: &str) -> Result<Value, Refused> {
        self.ask(name, "give its schema", config::schema)
    }

    /// One line of the author's about the plugin.
    ///
    /// # Errors
    /// The plugin cannot be used.
    pub fn summary(&self, name: &str) -> Result<String, Refused> {
        self.ask(name, "give its description", |plugin| {
            Ok(plugin.description().to_string())
        })
    }

    /// Every error that the plugin finds in a configuration.
    ///
    /// # Errors
    /// The plugin cannot be used, or panics.
    pub fn validate(&self, name: &str, config: &Value) -> Result<Vec<ConfigError>, Refused> {
        self.ask(name, "check its configuration", |plugin| {
            config::validate(plugin, config)
        })
    }

    /// What the plugin is under a configuration without errors.
    ///
    /// # Errors
    /// The plugin cannot be used, panics, or answers what this host does not know.
    pub fn describe(&self, name: &str, config: &Value) -> Result<Description, Refused> {
        self.ask(name, "describe itself", |plugin| {
            config::describe(plugin, config)
        })
    }

    /// Lets a sink ask its target, over the network, whether it can be written under a configuration without errors.
    ///
    /// # Errors
    /// The plugin cannot be used, or panics.
    pub fn check_target(&self, name: &str, config: &Value) -> Result<Vec<TargetFinding>, Refused> {
        self.ask(name, "ask its target", |plugin| {
            config::check_target(plugin, config)
        })
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// The plugin cannot be used, is no transform, or its constructor fails.
    pub fn create_transform(
        &self,
        name: &str,
        config: &Value,
        creation: &Creation<'_>,
    ) -> Result<TransformInstance, CallError> {
        let plugin = self.of_kind(name, Kind::Transform)?;
        let create = plugin.create_transform().into_option();
        let create = create.ok_or_else(|| no_constructor(name, Kind::Transform))?;
        let answer = call_with_context(creation, config, |json, context| {
            create(json, context).into_result()
        });
        answer
            .map(|object| TransformInstance::new(name, object))
            .map_err(|error| CallError::of(name, error))
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// The plugin cannot be used, is no sink, or its constructor fails.
    pub fn create_sink(
        &self,
        name: &str,
        config: &Value,
        creation: &Creation<'_>,
    ) -> Result<SinkInstance, CallError> {
        let plugin = self.of_kind(name, Kind::Sink)?;
        let create = plugin.create_sink().into_option();
        let create = create.ok_or_else(|| no_constructor(name, Kind::Sink))?;
        let answer = call_with_context(creation, config, |json, context| {
            create(json, context).into_result()
        });
        answer
            .map(|object| SinkInstance::new(name, object))
            .map_err(|error| CallError::of(name, error))
    }

    fn place(&self, name: &str) -> Result<(Place, &Library), Found> {
        let places = self.by_name.get(name).map(Vec::as_slice);
        match places.unwrap_or_default() {
            [] => Err(Found::Missing),
            [place] => self
                .files
                .get(place.library)
                .map(|library| (*place, library))
                .ok_or(Found::Missing),
            several => Err(Found::Duplicate(self.files_of(several))),
        }
    }

    fn files_of(&self, places: &[Place]) -> Vec<PathBuf> {
        let libraries = places
            .iter()
            .filter_map(|place| self.files.get(place.library));
        libraries.map(|library| library.file.clone()).collect()
    }

    fn plugin(&self, name: &str) -> Result<(PluginDeclRef, &Library), Refused> {
        let (place, library) = self.place(name).map_err(|found| not_found(name, found))?;
        let plugin = library.open()?.get(place.plugin).copied();
        plugin
            .map(|plugin| (plugin, library))
            .ok_or_else(|| not_found(name, Found::Missing))
    }

    fn ask<T>(
        &self,
        name: &str,
        what: &str,
        question: impl FnOnce(PluginDeclRef) -> Result<T, String>,
    ) -> Result<T, Refused> {
        let (plugin, library) = self.plugin(name)?;
        question(plugin).map_err(|reason| {
            let reason = format!("its plugin `{name}` could not {what}: {reason}");
            Fault::new(code::CALL, reason).of(&library.file)
        })
    }

    fn of_kind(&self, name: &str, kind: Kind) -> Result<PluginDeclRef, CallError> {
        match self.plugin(name) {
            Ok((plugin, _)) => Ok(plugin),
            Err(refused) => Err(CallError::fatal(
                refused.code,
                format!("{} `{name}` cannot be used: {refused}", kind.as_str()),
            )),
        }
    }
}

impl Library {
    /// Reads and judges the file again: its bytes are not kept from the listing, for most libraries of a folder are
    /// never opened.
    fn open(&self) -> Result<&[PluginDeclRef], Refused> {
        let opened = self.opened.get_or_init(|| {
            let inspected = inspect(&self.file)?;
            if inspected.manifest != self.manifest {
                let reason = "it became another library after this host listed it, and this host opens what it listed";
                return Err(Fault::new(code::CHANGED, reason).of(&self.file));
            }
            let plugins = load(&self.file, &inspected)?;
            tracing::debug!(
                file = %self.file.display(),
                crate_name = self.manifest.crate_name,
                version = self.manifest.crate_version,
                "opened a plugin library"
            );
            Ok(plugins)
        });
        opened.as_deref().map_err(Clone::clone)
    }

    fn refusal(&self) -> Option<&Refused> {
        self.opened.get()?.as_ref().err()
    }

    fn entry(&self, name: &str, place: Place) -> Entry {
        Entry {
            name: name.to_owned(),
            kind: place.kind,
            version: self.manifest.crate_version.clone(),
            abi: self.manifest.abi,
            sdk: self.manifest.sdk.clone(),
            rustc: self.manifest.rustc.clone(),
            crate_name: self.manifest.crate_name.clone(),
            file: self.file.clone(),
        }
    }
}

fn call_with_context<T>(
    creation: &Creation<'_>,
    config: &Value,
    create: impl FnOnce(RStr<'_>, &CreateContext<'_>) -> Result<T, PluginError>,
) -> Result<T, PluginError> {
    let context = CreateContext {
        host: creation.host,
        pipeline: creation.pipeline.into(),
        node: creation.node.into(),
        task: creation.task,
    };
    create(config.to_string().as_str().into(), &context)
}

fn no_constructor(name: &str, kind: Kind) -> CallError {
    CallError::fatal(
        "plugin.kind",
        format!("plugin `{name}` is no {}", kind.as_str()),
    )
}

fn not_found(name: &str, found: Found) -> Refused {
    match found {
        Found::Refused(refused) => refused,
        Found::Duplicate(files) => {
            let reason = format!(
                "{} files offer the plugin `{name}`, and this host takes a name from one file only",
                files.len()
            );
            Fault::new(DUPLICATE, reason).of(files.into_iter().next().unwrap_or_default())
        }
        Found::Known(_) | Found::Missing => {
            let reason =
                format!("no file offers the plugin `{name}`, which this host was asked for");
            Fault::new("plugin.missing", reason).of(PathBuf::new())
        }
    }
}
