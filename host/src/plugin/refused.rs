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
    macro_rules! refusals {
        ($($name:ident = $code:literal: $doc:literal;)*) => {
            $(
                #[doc = $doc]
                pub const $name: &str = $code;
            )*
            /// Every code with its meaning, in the order in which a file is judged.
            pub const REFUSALS: &[(&str, &str)] = &[$(($code, $doc)),*];
        };
    }

    refusals! {
        UNREADABLE = "plugin.file.unreadable": "The file cannot be read, or is no regular file.";
        TOO_LARGE = "plugin.file.too_large": "Larger than a host reads.";
        NOT_ELF = "plugin.file.not_elf": "No ELF file.";
        WRONG_MACHINE = "plugin.file.wrong_machine": "Built for another processor.";
        NOT_SHARED = "plugin.file.not_shared": "An ELF file, but no shared library.";
        DAMAGED = "plugin.file.damaged": "Cut short, or its tables contradict each other.";
        NO_PLUGIN = "plugin.file.no_plugin": "A shared library that is no plugin.";
        HEADER = "plugin.file.header": "Its header is none that this host reads.";
        MANIFEST = "plugin.file.manifest": "Its manifest is missing or says what it may not say.";
        CHANGED = "plugin.file.changed": "The file became another one after it was listed.";
        ABI_VERSION = "plugin.abi.version": "Built for another major version of the ABI.";
        ABI_LAYOUT = "plugin.abi.layout": "Its types are laid out differently.";
        OPEN = "plugin.load.open": "The dynamic linker, or the private copy that is made for it, failed.";
        MODULE = "plugin.load.module": "Its module did not start, or is not what the manifest says.";
        CALL = "plugin.call.failed": "Schema, validation or description failed inside the plugin.";
    }

    /// One sentence of cure.
    pub fn help(code: &str) -> &'static str {
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
