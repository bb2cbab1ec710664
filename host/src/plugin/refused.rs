use std::path::PathBuf;

/// Why a file cannot be used, or a plugin of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub file: PathBuf,
    /// Stable dotted code, one of [`code`].
    pub code: &'static str,
    /// One sentence that names both sides: what the file is, and what this host needs.
    pub reason: String,
    /// One sentence of cure.
    pub help: &'static str,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for Refused {}

/// A refusal that does not know its file yet.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Fault {
            code,
            reason: reason.into(),
        }
    }

    pub(super) fn of(self, file: impl Into<PathBuf>) -> Refused {
        Refused {
            file: file.into(),
            code: self.code,
            reason: self.reason,
            help: code::help(self.code),
        }
    }
}

/// Stable codes of refusals.
pub mod code {
    /// The file cannot be read, or is no regular file.
    pub const UNREADABLE: &str = "plugin.file.unreadable";
    /// Larger than a host reads.
    pub const TOO_LARGE: &str = "plugin.file.too_large";
    /// No ELF file.
    pub const NOT_ELF: &str = "plugin.file.not_elf";
    /// Built for another processor.
    pub const WRONG_MACHINE: &str = "plugin.file.wrong_machine";
    /// An ELF file, but no shared library.
    pub const NOT_SHARED: &str = "plugin.file.not_shared";
    /// Cut short, or its tables contradict each other.
    pub const DAMAGED: &str = "plugin.file.damaged";
    /// A shared library that is no plugin.
    pub const NO_PLUGIN: &str = "plugin.file.no_plugin";
    /// Its header is none that this host reads.
    pub const HEADER: &str = "plugin.file.header";
    /// Its manifest is missing or says what it may not say.
    pub const MANIFEST: &str = "plugin.file.manifest";
    /// The file became another one after it was listed.
    pub const CHANGED: &str = "plugin.file.changed";
    /// Built for another major version of the ABI.
    pub const ABI_VERSION: &str = "plugin.abi.version";
    /// Its types are laid out differently.
    pub const ABI_LAYOUT: &str = "plugin.abi.layout";
    /// The dynamic linker, or the private copy that is made for it, failed.
    pub const OPEN: &str = "plugin.load.open";
    /// Its module did not start, or is not what the manifest says.
    pub const MODULE: &str = "plugin.load.module";
    /// Schema, validation or description failed inside the plugin.
    pub const CALL: &str = "plugin.call.failed";

    /// One sentence of cure.
    pub(super) fn help(code: &str) -> &'static str {
        match code {
            UNREADABLE => "Check the file's permissions, or remove it from the plugin folder.",
            TOO_LARGE => "Strip the library (`strip --strip-debug`) or build it in release mode.",
            NOT_ELF | NOT_SHARED | NO_PLUGIN => {
                "Keep only plugin libraries in the plugin folder: crates of type `cdylib` that call `export_plugins!`."
            }
            WRONG_MACHINE => "Build the plugin on this machine, or for its target.",
            DAMAGED | CHANGED => {
                "Copy the library into the folder under another name, then rename it to `.so`, so that no half-written file is seen."
            }
            ABI_VERSION | ABI_LAYOUT | HEADER | MANIFEST => {
                "Build the plugin again with the weir-plugin-sdk of this host's release."
            }
            OPEN => {
                "Build the plugin on the oldest system it must run on and link its C libraries statically."
            }
            _ => "This is a fault of the plugin: report it to its author.",
        }
    }
}
