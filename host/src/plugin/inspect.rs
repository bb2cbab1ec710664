//! What a file is, told without running any of it. `dlopen` of a truncated library ends the process with SIGBUS, and it
//! runs constructors before anything else can be asked: so the whole file is read once and judged first.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::Endianness;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use weir_plugin_api::abi_stable::library::{AbiHeader, LibHeader};
use weir_plugin_api::{HEADER_SYMBOL, MANIFEST_LEN_MAX, MANIFEST_SECTION};

use super::manifest::{self, AbiVersion, Manifest};
use super::refused::{Fault, Refused, code};

/// Largest library that is read: an unstripped debug build of a large plugin is some 100 MB.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The ELF machine and name of this host's processor.
#[cfg(target_arch = "x86_64")]
const HOST_MACHINE: (elf::Machine, &str) = (elf::EM_X86_64, "x86-64");
#[cfg(target_arch = "aarch64")]
const HOST_MACHINE: (elf::Machine, &str) = (elf::EM_AARCH64, "AArch64");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("name this processor's ELF machine in HOST_MACHINE");

/// A file that may be opened, and its bytes: exactly these are opened.
pub struct Inspected {
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
}

/// Reads and judges a library.
///
/// # Errors
/// The file cannot be read, or is no plugin library that this host can open.
pub fn inspect(file: &Path) -> Result<Inspected, Refused> {
    let judged = read(file).and_then(|bytes| {
        let manifest = inspect_bytes(&bytes)?;
        Ok(Inspected { bytes, manifest })
    });
    judged.map_err(|fault| fault.of(file))
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| {
        Fault::new(
            code::UNREADABLE,
            format!(
                "it cannot be read ({error}), and this host reads a library whole before it opens it"
            ),
        )
    };
    // Before the open, which would wait for a writer if this is a pipe.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Fault::new(
            code::UNREADABLE,
            "it is no regular file, and this host needs a library file",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::new(
            code::TOO_LARGE,
            format!(
                "it is {} bytes long, and this host reads at most {FILE_BYTES_MAX}",
                metadata.len()
            ),
        ));
    }
    Ok(bytes)
}

/// Judges the bytes of a library; safe for any bytes.
pub(super) fn inspect_bytes(bytes: &[u8]) -> Result<Manifest, Fault> {
    let header = file_header(bytes)?;
    let endian = header.endian().map_err(damaged)?;
    let segments = header.program_headers(endian, bytes).map_err(damaged)?;
    check_segments(segments, endian, bytes)?;
    check_plugin_header(header, segments, endian, bytes)?;
    let manifest = manifest::parse(manifest_section(header, endian, bytes)?)?;
    check_abi_version(manifest.abi)?;
    Ok(manifest)
}

fn damaged(error: object::read::Error) -> Fault {
    Fault::new(
        code::DAMAGED,
        format!("it is cut short or damaged ({error}), and this host needs a whole library"),
    )
}

/// Class, byte order, machine and type.
fn file_header(bytes: &[u8]) -> Result<&FileHeader64<Endianness>, Fault> {
    let machine = HOST_MACHINE.1;
    let what = match bytes {
        [] => Some("it is empty"),
        [0x7f, b'E', b'L', b'F', ..] => None,
        _ if std::str::from_utf8(bytes).is_ok() => Some("it is a text file"),
        _ => Some("it is no ELF file"),
    };
    if let Some(what) = what {
        return Err(Fault::new(
            code::NOT_ELF,
            format!("{what}, and this host needs an ELF shared library for {machine}"),
        ));
    }
    // Byte 4 is the class (2 = 64 bit), byte 5 the byte order (1 = little-endian).
    let (class, order) = (bytes.get(4).copied(), bytes.get(5).copied());
    if class == Some(1) || order == Some(2) {
        return Err(Fault::new(
            code::WRONG_MACHINE,
            format!("it is a 32 bit or big-endian library, and this host needs one for {machine}"),
        ));
    }
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let found = header.e_machine(endian);
    if found != HOST_MACHINE.0 {
        return Err(Fault::new(
            code::WRONG_MACHINE,
            format!(
                "it is built for {}, and this host needs {machine}",
                machine_name(found)
            ),
        ));
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(Fault::new(
            code::NOT_SHARED,
            "it is a program or an object file, and this host needs a shared library",
        ));
    }
    Ok(header)
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86-64".to_owned(),
        elf::EM_AARCH64 => "AArch64".to_owned(),
        elf::EM_386 => "x86".to_owned(),
        elf::EM_ARM => "Arm".to_owned(),
        elf::EM_RISCV => "RISC-V".to_owned(),
        elf::EM_PPC64 => "PowerPC".to_owned(),
        elf::EM_S390 => "S/390".to_owned(),
        other => format!("ELF machine {}", other.0),
    }
}

/// The bytes of a loadable segment must be in the file, else the first touch of a page beyond its end is a SIGBUS.
fn check_segments(
    segments: &[ProgramHeader64<Endianness>],
    endian: Endianness,
    bytes: &[u8],
) -> Result<(), Fault> {
    let mut loadable = 0;
    for segment in segments {
        if segment.p_type(endian) != elf::PT_LOAD && segment.p_type(endian) != elf::PT_DYNAMIC {
            continue;
        }
        if segment.p_type(endian) == elf::PT_LOAD {
            loadable += 1;
        }
        let (offset, size) = segment.file_range(endian);
        let end = offset.checked_add(size);
        let in_memory = segment.p_vaddr(endian).checked_add(segment.p_memsz(endian));
        let whole = end.is_some_and(|end| end <= bytes.len() as u64);
        if !whole || in_memory.is_none() || size > segment.p_memsz(endian) {
            return Err(Fault::new(
                code::DAMAGED,
                format!(
                    "it is cut short: a segment of {size} bytes at {offset} is not within its {} bytes, and this host needs a whole library",
                    bytes.len()
                ),
            ));
        }
    }
    if loadable == 0 {
        return Err(Fault::new(
            code::DAMAGED,
            "it has nothing to load, and this host needs a shared library",
        ));
    }
    Ok(())
}

/// The header symbol is defined, as large as a header, within the file, and starts as abi_stable's headers do.
fn check_plugin_header(
    header: &FileHeader64<Endianness>,
    segments: &[ProgramHeader64<Endianness>],
    endian: Endianness,
    bytes: &[u8],
) -> Result<(), Fault> {
    let sections = header.sections(endian, bytes).map_err(damaged)?;
    let symbols = sections
        .symbols(endian, bytes, elf::SHT_DYNSYM)
        .map_err(damaged)?;
    let symbol = symbols.iter().find(|symbol| {
        !symbol.is_undefined(endian)
            && symbol.name(endian, symbols.strings()) == Ok(HEADER_SYMBOL.as_bytes())
    });
    let Some(symbol) = symbol else {
        return Err(Fault::new(
            code::NO_PLUGIN,
            "it is an ordinary shared library, and this host needs one that `export_plugins!` made",
        ));
    };
    let size_min = size_of::<LibHeader>() as u64;
    if symbol.st_size(endian) < size_min {
        return Err(wrong_header(format!(
            "is {} bytes long, where this host needs {size_min}",
            symbol.st_size(endian)
        )));
    }
    let start = file_bytes_at(segments, endian, bytes, symbol.st_value(endian), size_min)
        .ok_or_else(|| {
            wrong_header("lies outside of its segments, where this host cannot read it")
        })?;
    check_abi_header(start)
}

fn wrong_header(what: impl std::fmt::Display) -> Fault {
    Fault::new(code::HEADER, format!("its library header {what}"))
}

/// The bytes in the file that stand at `address` once loaded.
fn file_bytes_at<'a>(
    segments: &[ProgramHeader64<Endianness>],
    endian: Endianness,
    bytes: &'a [u8],
    address: u64,
    len: u64,
) -> Option<&'a [u8]> {
    segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .find_map(|segment| {
            segment
                .data_range(endian, bytes, address, len)
                .ok()
                .flatten()
        })
}

/// Magic text and version of abi_stable, which stand first in every header and hold no address.
fn check_abi_header(header: &[u8]) -> Result<(), Fault> {
    let ours = AbiHeader::VALUE;
    let magic_len = ours.magic_string.len();
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    if header.get(..magic_len) != Some(&ours.magic_string[..]) {
        return Err(wrong_header("is not abi_stable's, which this host needs"));
    }
    let (major, minor) = (number(magic_len), number(magic_len + 4));
    let compatible =
        major == Some(ours.abi_major) && (ours.abi_major != 0 || minor == Some(ours.abi_minor));
    if !compatible {
        return Err(wrong_header(format!(
            "is of abi_stable {}.{}, and this host needs {}.{}",
            major.unwrap_or_default(),
            minor.unwrap_or_default(),
            ours.abi_major,
            ours.abi_minor
        )));
    }
    Ok(())
}

fn manifest_section<'a>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    bytes: &'a [u8],
) -> Result<&'a [u8], Fault> {
    let sections = header.sections(endian, bytes).map_err(damaged)?;
    let Some((_, section)) = sections.section_by_name(endian, MANIFEST_SECTION.as_bytes()) else {
        return Err(Fault::new(
            code::MANIFEST,
            format!("it has no section {MANIFEST_SECTION}, and this host needs the manifest in it"),
        ));
    };
    let len = section.sh_size(endian);
    if len > MANIFEST_LEN_MAX as u64 {
        return Err(Fault::new(
            code::MANIFEST,
            format!(
                "its manifest is {len} bytes long, and this host reads at most {MANIFEST_LEN_MAX}"
            ),
        ));
    }
    section.data(endian, bytes).map_err(damaged)
}

/// Another major version speaks another language; minor versions are checked type by type when the library is open.
pub(super) fn check_abi_version(plugin: AbiVersion) -> Result<(), Fault> {
    let host = AbiVersion::host();
    if plugin.major == host.major {
        return Ok(());
    }
    Err(Fault::new(
        code::ABI_VERSION,
        format!("it was built for plugin ABI {plugin}, and this host speaks {host}"),
    ))
}
