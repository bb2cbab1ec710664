//! The fixture plugins, built once per test run into `<target>/fixtures`: one cargo workspace with all of them, and
//! beside it copies of the plugin ABI and SDK with a text changed here and there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;
use weir::plugin::inspect;
use weir_plugin_api::API_VERSION;

use super::cargo_build::{cargo_build, workspace_dir};

/// A fixture plugin crate: its name, its source under `tests/fixtures`, and the SDK that it is built against.
const PLUGINS: &[(&str, &str, Sdk)] = &[
    ("echo", "echo.rs", Sdk::Real),
    ("panics", "panics.rs", Sdk::Real),
    ("allocator", "allocator.rs", Sdk::Real),
    ("undefined", "undefined.rs", Sdk::Real),
    ("newer", "newer.rs", Sdk::Variant("newer")),
    ("other_major", "variant.rs", Sdk::Variant("major")),
    ("other_layout", "variant.rs", Sdk::Variant("layout")),
    ("plain", "plain.rs", Sdk::None),
    ("fake_header", "fake_header.rs", Sdk::None),
];

enum Sdk {
    Real,
    Variant(&'static str),
    None,
}

/// (file, text there, text instead).
type Patch = (&'static str, &'static str, &'static str);

/// A changed copy of the plugin ABI and SDK. Versions differ, so that cargo takes none for another.
struct Variant {
    name: &'static str,
    version: String,
    patches: &'static [Patch],
}

/// Grows everything that may grow: declaration, module, host services, plugin objects.
const NEWER: &[Patch] = &[
    (
        "api/src/module.rs",
        "RResult<SinkBox, PluginError>>,\n}",
        "RResult<SinkBox, PluginError>>,\n    pub added: u32,\n}",
    ),
    (
        "api/src/module.rs",
        "RSlice<'static, PluginDeclRef>,\n}",
        "RSlice<'static, PluginDeclRef>,\n    pub added: u32,\n}",
    ),
    (
        "sdk/src/export.rs",
        "create_sink: ROption::RNone,",
        "create_sink: ROption::RNone, added: 1,",
    ),
    (
        "sdk/src/export.rs",
        "create_sink: ROption::RSome($crate::shim::create_sink::<$plugin>),",
        "create_sink: ROption::RSome($crate::shim::create_sink::<$plugin>), added: 1,",
    ),
    (
        "sdk/src/export.rs",
        "plugins: RSlice::from_slice(PLUGINS),",
        "plugins: RSlice::from_slice(PLUGINS), added: 1,",
    ),
    (
        "api/src/service.rs",
        "clock_ms: unsafe extern \"C\" fn(*const ()) -> i64,\n}",
        "clock_ms: unsafe extern \"C\" fn(*const ()) -> i64,\n    pub added: unsafe extern \"C\" fn(*const ()) -> i64,\n}",
    ),
    (
        "api/src/service.rs",
        "    /// The host's wall clock, unix milliseconds.\n    pub fn",
        "    pub fn added(&self) -> Option<i64> {\n        self.vt.added().map(|added| unsafe { added(self.context) })\n    }\n\n    pub fn",
    ),
    (
        "api/src/host/service.rs",
        "HostVt { log, clock_ms }",
        "HostVt { log, clock_ms, added: clock_ms }",
    ),
    (
        "api/src/transform.rs",
        "    fn stop(&mut self) -> RResult<(), PluginError>;\n",
        "    fn stop(&mut self) -> RResult<(), PluginError>;\n\n    fn added(&self) -> u32 {\n        7\n    }\n",
    ),
    (
        "api/src/sink.rs",
        "    fn stop(&mut self) -> RResult<(), PluginError>;\n",
        "    fn stop(&mut self) -> RResult<(), PluginError>;\n\n    fn added(&self) -> u32 {\n        7\n    }\n",
    ),
    (
        "sdk/src/context.rs",
        "    pub fn task(&self)",
        "    pub fn added(&self) -> Option<i64> {\n        self.host.added()\n    }\n\n    pub fn task(&self)",
    ),
];

/// Changes the one type that must never change.
const LAYOUT: &[Patch] = &[
    (
        "api/src/batch.rs",
        "    pub timestamp_type: u32,\n}",
        "    pub timestamp_type: u32,\n    pub strange: u64,\n}",
    ),
    (
        "api/src/host/batch.rs",
        "timestamp_type: fields.timestamp_type,\n    };",
        "timestamp_type: fields.timestamp_type,\n        strange: 0,\n    };",
    ),
    (
        "sdk/src/record.rs",
        "timestamp_type: timestamp_type::NONE,\n        })",
        "timestamp_type: timestamp_type::NONE,\n            strange: 0,\n        })",
    ),
];

/// The host's loader as a host of a newer ABI would have it: it calls the method that older plugins do not know.
const NEWER_HOST: &[Patch] = &[(
    "instance.rs",
    "        let answer = self.object.release(slot);",
    "        assert_eq!(self.object.added(), 7);\n        let answer = self.object.release(slot);",
)];

fn variants() -> Vec<Variant> {
    let mut numbers = API_VERSION
        .split('.')
        .map(|number| number.parse::<u32>().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    let (major, minor, patch) = (next(), next(), next());
    let variant = |name, version, patches| Variant {
        name,
        version,
        patches,
    };
    vec![
        variant("newer", format!("{major}.{}.0", minor + 1), NEWER),
        variant("major", format!("{}.0.0", major + 1), &[]),
        variant("layout", format!("{major}.{minor}.{}", patch + 1), LAYOUT),
    ]
}

/// What was built.
pub struct Fixtures {
    plugins: BTreeMap<String, PathBuf>,
    /// A program with the loader of a newer host.
    pub newer_host: PathBuf,
    workspace: PathBuf,
    target_dir: PathBuf,
}

impl Fixtures {
    /// The library of a fixture crate.
    pub fn file(&self, plugin: &str) -> &Path {
        self.plugins
            .get(plugin)
            .unwrap_or_else(|| panic!("no fixture {plugin}"))
    }

    pub fn bytes(&self, plugin: &str) -> Vec<u8> {
        std::fs::read(self.file(plugin)).expect("a readable fixture")
    }

    /// What the compiler says of a fixture crate with these flags of its own.
    pub fn compile_error(&self, plugin: &str, flags: &[&str]) -> String {
        let output = Command::new(env!("CARGO"))
            .args(["rustc", "--offline", "--lib", "--package", plugin])
            .arg("--target-dir")
            .arg(&self.target_dir)
            .arg("--")
            .args(flags)
            .current_dir(&self.workspace)
            .output()
            .expect("cargo");
        assert!(!output.status.success(), "{plugin} compiles with {flags:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A folder with these files: (name, content).
pub fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    folder
}

pub fn fixtures() -> &'static Fixtures {
    // Poisoned by a panic: a build that fails is not tried again by every test.
    static FIXTURES: LazyLock<Fixtures> = LazyLock::new(build);
    &FIXTURES
}

fn build() -> Fixtures {
    // `<target>/tmp` is what cargo tells integration tests.
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("a target folder")
        .join("fixtures");
    let workspace = target_dir.join("workspace");
    for variant in variants() {
        write_variant(&workspace, &variant);
    }
    write_newer_host(&workspace);
    let members: Vec<&str> = PLUGINS.iter().map(|(name, _, _)| *name).collect();
    for (name, source, sdk) in PLUGINS {
        write_plugin(&workspace, name, source, sdk);
    }
    write_workspace(&workspace, &members);

    let built = cargo_build(&workspace, &target_dir, &["--workspace"])
        .unwrap_or_else(|error| panic!("{error}"));
    let plugins: BTreeMap<String, PathBuf> = built
        .into_iter()
        .map(|built| (built.target, built.file))
        .collect();
    check_manifests(&plugins);
    Fixtures {
        plugins,
        newer_host: target_dir.join("debug/newer-host"),
        workspace,
        target_dir,
    }
}

/// Each library is of the ABI version that it is meant to be of.
fn check_manifests(plugins: &BTreeMap<String, PathBuf>) {
    let version = |sdk: &Sdk| match sdk {
        Sdk::Real => API_VERSION.to_owned(),
        Sdk::Variant(name) => {
            let mut variants = variants().into_iter();
            variants
                .find(|variant| variant.name == *name)
                .expect("a variant")
                .version
        }
        Sdk::None => String::new(),
    };
    for (name, _, sdk) in PLUGINS {
        let file = plugins
            .get(*name)
            .unwrap_or_else(|| panic!("cargo built no {name}"));
        let expected = version(sdk);
        match (inspect(file), sdk) {
            (_, Sdk::None) => {}
            (Ok(inspected), _) => assert_eq!(inspected.manifest.abi.to_string(), expected),
            (Err(refused), _) => assert!(refused.reason.contains(&expected), "{refused}"),
        }
    }
}

/// Writes what is not there yet: an unchanged file keeps its time, so that cargo builds nothing anew.
fn write(file: &Path, text: &str) {
    if std::fs::read_to_string(file).is_ok_and(|present| present == text) {
        return;
    }
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(file, text).expect("a file");
}

fn copy_patched(from: &Path, to: &Path, patch: &mut impl FnMut(&Path, String) -> String) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_patched(&path, &target, patch);
        } else {
            let text = std::fs::read_to_string(&path).expect("a text");
            write(&target, &patch(&path, text));
        }
    }
}

fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
    text.replace(from, to)
}

/// Copies a folder of texts; every patch must find its text in its file, whose path is relative to `root`.
fn copy_with_patches(from: &Path, to: &Path, root: &Path, patches: &[Patch]) -> usize {
    let mut applied = 0;
    copy_patched(from, to, &mut |path, text| {
        let relative = path.strip_prefix(root);
        let patches = patches.iter();
        let patches = patches.filter(|(file, _, _)| relative == Ok(Path::new(file)));
        patches.fold(text, |text, (_, from, to)| {
            applied += 1;
            replace_once(&text, from, to)
        })
    });
    applied
}

fn write_variant(workspace: &Path, variant: &Variant) {
    let folder = workspace.join("variants").join(variant.name);
    let plugins = workspace_dir().join("plugins");
    let applied: usize = ["api", "sdk"]
        .map(|part| {
            let (from, to) = (
                plugins.join(part).join("src"),
                folder.join(part).join("src"),
            );
            copy_with_patches(&from, &to, &plugins, variant.patches)
        })
        .iter()
        .sum();
    assert_eq!(
        applied,
        variant.patches.len(),
        "patches of {}",
        variant.name
    );
    let read = |file: &str| {
        std::fs::read_to_string(workspace_dir().join("plugins").join(file)).expect("a text")
    };
    write(&folder.join("sdk/build.rs"), &read("sdk/build.rs"));
    let api = format!("version = \"{API_VERSION}\"");
    let own = format!("version = \"{}\"", variant.version);
    write(
        &folder.join("api/Cargo.toml"),
        &replace_once(&read("api/Cargo.toml"), &api, &own),
    );
    let sdk = replace_once(
        &read("sdk/Cargo.toml"),
        "\nversion.workspace = true",
        &format!("\n{own}"),
    );
    let sdk = replace_once(
        &sdk,
        "weir-plugin-api.workspace = true",
        "weir-plugin-api = { path = \"../api\" }",
    );
    write(&folder.join("sdk/Cargo.toml"), &sdk);
    write(
        &folder.join("Cargo.toml"),
        &format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"api\", \"sdk\"]\n\n{}",
            inherited("")
        ),
    );
}

/// The sections of this workspace's manifest that its members inherit from. The ABI and SDK stand in `plugins_dir`.
fn inherited(plugins_dir: &str) -> String {
    let root = std::fs::read_to_string(workspace_dir().join("Cargo.toml")).expect("a manifest");
    let from = root.find("[workspace.package]").expect("a section");
    let to = root.find("[profile.").unwrap_or(root.len());
    let lines = root[from..to].lines();
    // Other members of this workspace are none of theirs.
    let lines =
        lines.filter(|line| !line.contains("path = ") || line.contains("path = \"plugins/"));
    let text: Vec<String> = lines
        .map(|line| line.replace("path = \"plugins/", &format!("path = \"{plugins_dir}")))
        .collect();
    text.join("\n")
}

fn write_newer_host(workspace: &Path) {
    let folder = workspace.join("newer-host");
    let host = workspace_dir().join("host");
    let source = host.join("src/plugin");
    let applied = copy_with_patches(&source, &folder.join("src/plugin"), &source, NEWER_HOST);
    assert_eq!(applied, NEWER_HOST.len(), "patches of the newer host");
    let main = std::fs::read_to_string(host.join("tests/fixtures/newer_host.rs"));
    write(&folder.join("src/main.rs"), &main.expect("a text"));
    write(
        &folder.join("Cargo.toml"),
        "[package]\nname = \"newer-host\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         libloading.workspace = true\nobject.workspace = true\nrustix.workspace = true\nserde_json.workspace = true\n\
         tracing.workspace = true\nweir-plugin-api = { path = \"../variants/newer/api\" }\n",
    );
}

fn write_plugin(workspace: &Path, name: &str, source: &str, sdk: &Sdk) {
    let folder = workspace.join(name);
    let sdk = match sdk {
        Sdk::Real => "weir-plugin-sdk.workspace = true\n".to_owned(),
        Sdk::Variant(name) => {
            format!("weir-plugin-sdk = {{ path = \"../variants/{name}/sdk\" }}\n")
        }
        Sdk::None => String::new(),
    };
    let authors = if sdk.is_empty() {
        ""
    } else {
        "schemars.workspace = true\nserde.workspace = true\n"
    };
    write(
        &folder.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.1\"\nedition = \"2024\"\n\n[lib]\n\
             crate-type = [\"cdylib\"]\n\n[dependencies]\n{authors}{sdk}"
        ),
    );
    let source = workspace_dir().join("host/tests/fixtures").join(source);
    let text = std::fs::read_to_string(source).expect("a fixture");
    write(&folder.join("src/lib.rs"), &text);
}

fn write_workspace(workspace: &Path, plugins: &[&str]) {
    let members: Vec<String> = plugins.iter().map(|name| format!("\"{name}\"")).collect();
    let plugins_dir = workspace_dir().join("plugins");
    write(
        &workspace.join("Cargo.toml"),
        &format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"newer-host\", {}]\nexclude = [\"variants\"]\n\n{}\n\n\
             [profile.dev]\ndebug = false\n",
            members.join(", "),
            inherited(&format!("{}/", plugins_dir.display())),
        ),
    );
}
