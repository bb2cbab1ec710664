//! The generated reference in `docs/`: made from the declarations that the host and the plugins themselves use, so
//! that it cannot say anything else than they do.

mod pages;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use pages::pages;

/// A file of `docs/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub file: &'static str,
    pub text: String,
}

/// The root of this repository.
pub fn repository() -> PathBuf {
    let dev = Path::new(env!("CARGO_MANIFEST_DIR"));
    dev.parent().unwrap_or(dev).to_owned()
}

/// The pages that are not what they should be, and, with `write`, are from now on.
pub fn outdated(folder: &Path, pages: Vec<Page>, write: bool) -> Result<Vec<&'static str>> {
    let mut outdated = Vec::new();
    for page in pages {
        let path = folder.join(page.file);
        // A file that cannot be read is as wrong as one with another text.
        if fs::read_to_string(&path).is_ok_and(|text| text == page.text) {
            continue;
        }
        if write {
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, &page.text))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        outdated.push(page.file);
    }
    Ok(outdated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_outdated_until_it_is_written() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let page = |text: &str| {
            vec![Page {
                file: "a.md",
                text: text.to_owned(),
            }]
        };
        let docs = folder.path().join("docs");
        assert_eq!(outdated(&docs, page("1"), false)?, ["a.md"]);
        assert_eq!(outdated(&docs, page("1"), true)?, ["a.md"]);
        assert!(outdated(&docs, page("1"), false)?.is_empty());
        assert_eq!(outdated(&docs, page("2"), false)?, ["a.md"]);
        Ok(())
    }
}
