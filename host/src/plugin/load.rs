//! Opens a library: the one place where a foreign file becomes code of this process.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use weir_plugin_api::abi_stable::library::{AbiHeaderRef, LibHeader, RootModuleError};
use weir_plugin_api::abi_stable::sabi_types::VersionStrings;
use weir_plugin_api::{HEADER_SYMBOL, PluginDeclRef, PluginModuleRef, is_legal_name, plugin_kind};

use super::Kind;
use super::inspect::{Inspected, check_abi_version};
use super::layout;
use super::manifest::{AbiVersion, Manifest};
use super::refused::{Fault, Refused, code};

/// Opens the inspected bytes and answers the library's plugins, in the order of its manifest. The library stays open for
/// the life of the process, even where it is refused after all: its threads, thread-locals and statics may be in use.
///
/// # Errors
/// The dynamic linker, the layout check or the library itself refuses.
pub(super) fn load(file: &Path, inspected: &Inspected) -> Result<Vec<PluginDeclRef>, Refused> {
    open(&inspected.bytes)
        .and_then(|header| declarations(header, &inspected.manifest))
        .map_err(|fault| fault.of(file))
}

fn cannot_open(what: impl std::fmt::Display) -> Fault {
    Fault::new(code::OPEN, what.to_string())
}

/// Opens a private copy, so that whoever overwrites the file in place does not overwrite running code.
fn open(bytes: &[u8]) -> Result<&'static LibHeader, Fault> {
    let copy = private_copy(bytes).map_err(|error| {
        cannot_open(format!(
            "the private copy in memory that this host opens cannot be made ({error})"
        ))
    })?;
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // SAFETY: opening runs the library's constructors. Whoever puts a file into a plugin folder has it run in this
    // process; that is what the folder is for. The bytes were inspected, so the linker maps nothing that is not there,
    // and the copy is sealed, so they are still the same.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| {
        cannot_open(format!(
            "the dynamic linker refuses it ({}), and this host needs every symbol and library that it asks for",
            causes(&error).replace(&format!("{path}: "), "")
        ))
    })?;
    // Never closed either: the linker knows a library by its path, so another library under the same descriptor number
    // would be taken for this one.
    let _ = copy.into_raw_fd();
    // SAFETY: the symbol is a `LibHeader`: inspection found it defined, large enough and with abi_stable's magic text
    // and version in front, and `AbiHeaderRef` is the address of those.
    let header = unsafe { library.get::<AbiHeaderRef>(HEADER_SYMBOL) }
        .map(|symbol| *symbol)
        .map_err(|error| cannot_open(causes(&error)));
    std::mem::forget(library);
    header?.upgrade().map_err(|error| {
        Fault::new(
            code::HEADER,
            format!("its library header is refused by this host's abi_stable ({error})"),
        )
    })
}

fn private_copy(bytes: &[u8]) -> std::io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("weir-plugin", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// libloading puts the linker's own words into the source of its error.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn declarations(
    header: &'static LibHeader,
    manifest: &Manifest,
) -> Result<Vec<PluginDeclRef>, Fault> {
    let version = header_version(header.version_strings())?;
    check_abi_version(version)?;
    let Some(plugin_layout) = header.layout() else {
        return Err(Fault::new(
            code::HEADER,
            "its library header carries no type layouts, which this host needs",
        ));
    };
    layout::check(plugin_layout, version)?;
    // SAFETY: the layout of everything reachable from the module was just checked, in the direction in which the side
    // with fewer trailing fields asks; accessors of trailing fields look at the other side's field count.
    let module = unsafe { header.unchecked_layout::<PluginModuleRef>() };
    let module = module.map_err(|error| match error {
        RootModuleError::Returned(error) => {
            module_fault(format!("its module did not start ({error})"))
        }
        RootModuleError::Unwound => module_fault("its module panicked when it started"),
    })?;
    if version != manifest.abi {
        return Err(module_fault(format!(
            "its header is of plugin ABI {version} and its manifest of {}, and this host needs one answer",
            manifest.abi
        )));
    }
    let plugins = module.plugins().to_vec();
    check_declarations(&plugins, manifest)?;
    Ok(plugins)
}

fn module_fault(reason: impl Into<String>) -> Fault {
    Fault::new(code::MODULE, reason)
}

fn header_version(strings: VersionStrings) -> Result<AbiVersion, Fault> {
    AbiVersion::parse(strings.version.as_str()).ok_or_else(|| {
        Fault::new(
            code::HEADER,
            format!(
                "its library header gives {:?} as its version, where this host needs `major.minor.patch`",
                strings.version.as_str()
            ),
        )
    })
}

/// The module must be what the manifest said, for the catalog was made from that.
fn check_declarations(plugins: &[PluginDeclRef], manifest: &Manifest) -> Result<(), Fault> {
    let of_module: Vec<(Option<Kind>, &str)> = plugins
        .iter()
        .map(|plugin| (kind_of(*plugin), plugin.name().as_str()))
        .collect();
    let of_manifest: Vec<(Option<Kind>, &str)> = manifest
        .plugins
        .iter()
        .map(|(kind, name)| (Some(*kind), name.as_str()))
        .collect();
    if of_module == of_manifest {
        return Ok(());
    }
    let shown: Vec<&str> = of_module
        .iter()
        .map(|(_, name)| if is_legal_name(name) { *name } else { "?" })
        .collect();
    Err(module_fault(format!(
        "its module offers {} and its manifest {}, and this host needs the same plugins of the same kinds in both",
        shown.join(", "),
        of_manifest
            .iter()
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join(", "),
    )))
}

/// `None` for a kind that this host does not know, or one without its constructor.
fn kind_of(plugin: PluginDeclRef) -> Option<Kind> {
    match plugin.kind() {
        plugin_kind::TRANSFORM if plugin.create_transform().is_some() => Some(Kind::Transform),
        plugin_kind::SINK if plugin.create_sink().is_some() => Some(Kind::Sink),
        _ => None,
    }
}
