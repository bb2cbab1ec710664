//! The manifest: a text of `key=value` lines in an ELF section of its own, so that a host can tell what a file is
//! without running any of its code.
//!
//! Keys: `api`, `sdk`, `rustc`, `panic`, `crate`, `version`, and one `plugin` per name.

/// Name of the ELF section.
pub const MANIFEST_SECTION: &str = ".weir_plugin";
/// A host refuses a larger section unread.
pub const MANIFEST_LEN_MAX: usize = 64 * 1024;

/// Length of the joined parts, for [`manifest_bytes`].
pub const fn manifest_len(parts: &[&str]) -> usize {
    let mut len = 0;
    let mut part = 0;
    while part < parts.len() {
        len += parts[part].len();
        part += 1;
    }
    len
}

/// Joins `parts` at compile time. `N` is [`manifest_len`] of the same parts.
pub const fn manifest_bytes<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    let mut part = 0;
    while part < parts.len() {
        let text = parts[part].as_bytes();
        let mut i = 0;
        while i < text.len() {
            bytes[at] = text[i];
            at += 1;
            i += 1;
        }
        part += 1;
    }
    bytes
}
