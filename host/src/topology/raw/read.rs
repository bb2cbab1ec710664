//! From a path to text: everything that can be wrong with a file before it is YAML.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::topology::codes;
use crate::topology::diagnostic::Finding;

/// Largest topology file, in bytes. A pipeline takes about 1 KiB, so this is thousands of them;
/// the bound stops a data file or a device given by mistake.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a file as UTF-8 text without byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String, Finding> {
    let bytes = read_bytes(path)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) => Err(Finding::of_file(
            codes::FILE_NOT_UTF8,
            format!(
                "The file is not UTF-8 text from byte {} on.",
                error.utf8_error().valid_up_to()
            ),
            "Save it as UTF-8; an editor calls this the file's encoding.",
        )),
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Finding> {
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Finding::of_file(
            codes::FILE_DIRECTORY,
            "The path names a folder, and a topology is one file.",
            "Name the file, for example `-f connectors.yaml`.",
        ));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Finding::of_file(
            codes::FILE_TOO_LARGE,
            format!(
                "The file is larger than {FILE_BYTES_MAX} bytes, the most a topology may have."
            ),
            "Check that `-f` names the topology and not a data file.",
        ));
    }
    Ok(bytes)
}

fn unreadable(error: std::io::Error) -> Finding {
    if error.kind() == ErrorKind::NotFound {
        return Finding::of_file(
            codes::FILE_MISSING,
            "The file does not exist.",
            "Name an existing file with `-f FILE`; the default is connectors.yaml in the current folder.",
        );
    }
    Finding::of_file(
        codes::FILE_UNREADABLE,
        format!("The file cannot be read: {error}."),
        "Let the user that runs Weir read the file.",
    )
}
