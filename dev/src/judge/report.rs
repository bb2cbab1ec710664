//! What the judge found.

use std::fmt;

use anyhow::{Result, bail};

/// How many differences are shown: enough to see a pattern, few enough to read.
const SHOWN: usize = 12;

/// The differences between what should be there and what is there.
#[derive(Debug, Default)]
pub struct Report {
    differences: Vec<String>,
    /// What was compared, by kind: a report without differences must have compared something.
    counts: Vec<(&'static str, usize)>,
}

impl Report {
    pub fn differ(&mut self, difference: impl Into<String>) {
        self.differences.push(difference.into());
    }

    /// Adds to what was counted of `kind`.
    pub fn count(&mut self, kind: &'static str, number: usize) {
        match self.counts.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, sum)) => *sum += number,
            None => self.counts.push((kind, number)),
        }
    }

    /// How many things of `kind` were compared.
    pub fn counted(&self, kind: &str) -> usize {
        self.counts
            .iter()
            .filter(|(name, _)| *name == kind)
            .map(|(_, number)| number)
            .sum()
    }

    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// An error that shows the first differences, if there are any.
    pub fn into_result(self) -> Result<Report> {
        if self.differences.is_empty() {
            return Ok(self);
        }
        bail!("{self}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} differences;", self.differences.len())?;
        for (kind, number) in &self.counts {
            write!(f, " {number} {kind};")?;
        }
        for difference in self.differences.iter().take(SHOWN) {
            write!(f, "\n  {difference}")?;
        }
        if self.differences.len() > SHOWN {
            write!(f, "\n  ... and {} more", self.differences.len() - SHOWN)?;
        }
        Ok(())
    }
}
