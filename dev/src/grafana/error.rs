use std::path::{Path, PathBuf};

/// A provisioning file that Grafana would refuse or, worse, accept and evaluate wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}: {cause} {cure}", file.display())]
pub struct ProvisioningError {
    /// Stable dotted code, `grafana.file.*` or `grafana.rule.*`.
    pub code: &'static str,
    /// The file (or folder) at fault.
    pub file: PathBuf,
    /// One sentence: what is wrong.
    pub cause: String,
    /// One sentence: what to do.
    pub cure: String,
}

impl ProvisioningError {
    pub(super) fn new(
        code: &'static str,
        file: &Path,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            code,
            file: file.to_owned(),
            cause: cause.into(),
            cure: cure.into(),
        }
    }
}
