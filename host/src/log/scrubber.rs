//! Keeps secrets out of what is printed.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

const MASK: &str = "***";

/// Replaces every known secret by `***`. Clones share their secrets, so that a logger made before the topology was
/// read learns them too.
#[derive(Debug, Clone, Default)]
pub struct Scrubber {
    secrets: Arc<RwLock<Option<AhoCorasick>>>,
}

impl Scrubber {
    /// Replaces the list of secrets. Empty ones are passed over. Where two begin at one place, the longer one counts.
    ///
    /// # Errors
    /// The secrets are together larger than the searcher allows (2 GiB).
    pub fn set_secrets<S: AsRef<str>>(&self, secrets: &[S]) -> Result<(), BuildError> {
        let patterns: Vec<&str> = secrets
            .iter()
            .map(AsRef::as_ref)
            .filter(|secret| !secret.is_empty())
            .collect();
        let searcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&patterns)?;
        let mut shared = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        *shared = (!patterns.is_empty()).then_some(searcher);
        Ok(())
    }

    /// The text without secrets.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let shared = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        match shared.as_ref() {
            Some(searcher) if searcher.is_match(text) => {
                let masks = vec![MASK; searcher.patterns_len()];
                Cow::Owned(searcher.replace_all(text, &masks))
            }
            _ => Cow::Borrowed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_stars_and_the_longer_one_counts() {
        let scrubber = Scrubber::default();
        let clone = scrubber.clone();
        scrubber
            .set_secrets(&["hunter2", "", "hunter"])
            .expect("small");
        let url = "http://elastic:hunter2@host and hunter";
        assert_eq!(clone.scrub(url), "http://elastic:***@host and ***");
    }

    #[test]
    fn without_secrets_nothing_changes() {
        let scrubber = Scrubber::default();
        assert!(matches!(scrubber.scrub("text"), Cow::Borrowed("text")));
        scrubber.set_secrets::<&str>(&[]).expect("none");
        assert_eq!(scrubber.scrub("text"), "text");
    }
}
