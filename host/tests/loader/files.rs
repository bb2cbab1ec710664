//! Files that are no plugin, or none that can be trusted to be one: refused without being opened.

use std::path::Path;

use weir::plugin::{Refused, code, inspect};
use weir_plugin_api::abi_stable::library::AbiHeader;

use super::fixtures::{fixtures, folder};

fn refusal_of(bytes: &[u8]) -> Refused {
    let folder = folder(&[("x.so", bytes)]);
    refusal(&folder.path().join("x.so"))
}

fn refusal(file: &Path) -> Refused {
    let refused = inspect(file).err().expect("a refusal");
    assert_eq!(refused.file, file);
    assert!(
        refused.reason.contains("this host"),
        "names both sides: {refused}"
    );
    assert!(!refused.help.is_empty());
    refused
}

/// `bytes` with the only occurrence of one text replaced by another of its length, or every one of them.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut patched = bytes.to_vec();
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            patched[at..at + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "{:?}", String::from_utf8_lossy(from));
    patched
}

#[test]
fn a_good_library_passes_with_its_manifest() {
    let inspected = inspect(fixtures().file("echo")).expect("a plugin");
    let names: Vec<&str> = inspected
        .manifest
        .plugins
        .iter()
        .map(|(_, name)| name.as_str())
        .collect();
    assert_eq!(names, ["echo", "collect"]);
    assert_eq!(inspected.manifest.crate_name, "echo");
    assert_eq!(inspected.manifest.crate_version, "0.0.1");
    assert!(!inspected.manifest.rustc.is_empty());
    assert_eq!(inspected.bytes, fixtures().bytes("echo"));
}

#[test]
fn what_is_no_library_is_refused_by_what_it_is() {
    for (bytes, code, says) in [
        (&b""[..], code::NOT_ELF, "it is empty"),
        (b"plugins: [./x]\n", code::NOT_ELF, "it is a text file"),
        (
            &[0xff, 0x00, 0x12, 0x80],
            code::NOT_ELF,
            "it is no ELF file",
        ),
        (b"\x7fELF", code::DAMAGED, "cut short"),
        (b"\x7fELF\x01\x01\x01", code::WRONG_MACHINE, "32 bit"),
        (b"\x7fELF\x02\x02\x01", code::WRONG_MACHINE, "big-endian"),
    ] {
        let refused = refusal_of(bytes);
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.reason.contains(says), "{refused}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_a_pipe_is_not_waited_for() {
    let folder = folder(&[]);
    assert_eq!(
        refusal(&folder.path().join("none.so")).code,
        code::UNREADABLE
    );
    assert_eq!(refusal(folder.path()).code, code::UNREADABLE);
    let pipe = folder.path().join("pipe.so");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .expect("a pipe");
    assert_eq!(refusal(&pipe).code, code::UNREADABLE);
}

#[test]
fn a_file_larger_than_the_bound_is_refused() {
    let folder = folder(&[]);
    let file = folder.path().join("large.so");
    let large = std::fs::File::create(&file).expect("a file");
    // Sparse: takes no room on the disk.
    large
        .set_len(weir::plugin::FILE_BYTES_MAX + 1)
        .expect("a length");
    assert_eq!(refusal(&file).code, code::TOO_LARGE);
}

#[test]
fn a_library_cut_short_anywhere_is_refused() {
    let whole = fixtures().bytes("echo");
    let folder = folder(&[]);
    let file = folder.path().join("cut.so");
    let even = (0..100).map(|part| whole.len() / 100 * part);
    let edges = [1, 4, 5, 16, 63, 64, 65, 4095, 4096, 4097];
    let tail = (1..=64).map(|less| whole.len() - less);
    for len in even.chain(edges).chain(tail) {
        std::fs::write(&file, &whole[..len]).expect("a file");
        let refused = refusal(&file);
        assert!(
            [code::NOT_ELF, code::DAMAGED].contains(&refused.code),
            "{len} bytes: {refused}"
        );
    }
}

#[test]
fn damage_in_the_headers_never_panics() {
    let whole = fixtures().bytes("echo");
    let seed = 0x5eed_1234_u64;
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut random = |below: usize| {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    let folder = folder(&[]);
    let file = folder.path().join("damaged.so");
    let mut refused = 0;
    for _ in 0..400 {
        let mut damaged = whole.clone();
        for _ in 0..4 {
            // The file header and segments stand in front, the section headers at the end, symbols in between.
            let at = match random(3) {
                0 => random(1024),
                1 => damaged.len() - 1 - random(2048),
                _ => random(damaged.len()),
            };
            damaged[at] = random(256) as u8;
        }
        std::fs::write(&file, &damaged).expect("a file");
        refused += usize::from(inspect(&file).is_err());
    }
    assert!(refused > 40, "only {refused} were refused");
}

#[test]
fn another_processor_is_named() {
    // e_machine stands at byte 18.
    let mut bytes = fixtures().bytes("echo");
    let (other, name): (u16, &str) = if cfg!(target_arch = "aarch64") {
        (62, "x86-64")
    } else {
        (183, "AArch64")
    };
    bytes[18..20].copy_from_slice(&other.to_le_bytes());
    let refused = refusal_of(&bytes);
    assert_eq!(refused.code, code::WRONG_MACHINE);
    assert!(refused.reason.contains(name), "{refused}");
    bytes[18..20].copy_from_slice(&0x1234_u16.to_le_bytes());
    assert!(refusal_of(&bytes).reason.contains("ELF machine 4660"));
}

#[test]
fn a_program_and_an_object_file_are_refused() {
    let mut bytes = fixtures().bytes("echo");
    for kind in [1_u16, 2] {
        // e_type stands at byte 16.
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        assert_eq!(refusal_of(&bytes).code, code::NOT_SHARED);
    }
    let own = std::env::current_exe().expect("this program");
    let refused = inspect(&own).err().expect("a refusal");
    assert!(
        [code::NO_PLUGIN, code::NOT_SHARED].contains(&refused.code),
        "{refused}"
    );
}

#[test]
fn an_ordinary_library_is_refused_before_its_constructors_run() {
    let plain = fixtures().bytes("plain");
    let folder = folder(&[("plain.so", &plain)]);
    let catalog = super::drive::catalog(folder.path());
    catalog.open_all();
    let unusable = catalog.unusable();
    assert_eq!(unusable.len(), 1);
    assert_eq!(unusable[0].code, code::NO_PLUGIN);
    assert!(unusable[0].reason.contains("ordinary shared library"));
    assert_eq!(std::env::var_os("WEIR_FIXTURE_PLAIN_RAN"), None);
}

#[test]
fn the_c_library_is_refused() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let libc = maps
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .find(|path| path.contains("/libc.so") || path.contains("/libc-"))
        .expect("a C library");
    assert_eq!(refusal(Path::new(libc)).code, code::NO_PLUGIN);
}

#[test]
fn a_header_that_only_has_the_name_is_refused() {
    let refused = refusal_of(&fixtures().bytes("fake_header"));
    assert_eq!(refused.code, code::HEADER);
    assert!(refused.reason.contains("abi_stable"), "{refused}");
}

#[test]
fn a_header_of_another_abi_stable_is_refused_with_both_versions() {
    let ours = AbiHeader::VALUE;
    let mut from = ours.magic_string.to_vec();
    from.extend(ours.abi_major.to_le_bytes());
    from.extend(ours.abi_minor.to_le_bytes());
    let mut to = from.clone();
    to[36..40].copy_from_slice(&(ours.abi_minor + 1).to_le_bytes());
    let refused = refusal_of(&patched(&fixtures().bytes("echo"), &from, &to));
    assert_eq!(refused.code, code::HEADER);
    let both =
        [ours.abi_minor, ours.abi_minor + 1].map(|minor| format!("{}.{minor}", ours.abi_major));
    assert!(
        both.iter().all(|version| refused.reason.contains(version)),
        "{refused}"
    );
}

#[test]
fn a_manifest_that_says_too_little_or_the_wrong_thing_is_refused() {
    let good = fixtures().bytes("echo");
    for (from, to, says) in [
        ("manifest=1\napi", "manifest=2\napi", "manifest=1"),
        ("panic=unwind", "panic=abort ", "panic=\"unwind\""),
        ("crate=echo", "crate:echo", "key=value"),
        ("plugin=sink:collect", "plugin=sink:Collect", "\"Collect\""),
        (
            "plugin=transform:echo",
            "plugin=connector:echo",
            "connector:echo",
        ),
        (".weir_plugin", ".weir_plugim", "no section .weir_plugin"),
    ] {
        let refused = refusal_of(&patched(&good, from.as_bytes(), to.as_bytes()));
        assert_eq!(refused.code, code::MANIFEST, "{from}: {refused}");
        assert!(refused.reason.contains(says), "{from}: {refused}");
    }
}

#[test]
fn panic_abort_is_refused_by_the_compiler() {
    let error = fixtures().compile_error("echo", &["-C", "panic=abort"]);
    assert!(
        error.contains("a Weir plugin needs panic = \"unwind\""),
        "{error}"
    );
}
