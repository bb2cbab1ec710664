use weir_plugin_api::is_legal_name;

use super::Kind;
use super::refused::{Fault, code};

/// Plugins of one library; far above any use, it only bounds what a host lists.
const PLUGINS_MAX: usize = 256;

/// A version of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbiVersion {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl AbiVersion {
    /// Reads `1.2.3`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        let version = AbiVersion {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next()??,
        };
        numbers.next().is_none().then_some(version)
    }

    /// The version that this host speaks.
    pub fn host() -> Self {
        // The text is this workspace's own package version, which Cargo has parsed.
        AbiVersion::parse(weir_plugin_api::API_VERSION).unwrap_or(AbiVersion {
            major: 0,
            minor: 0,
            patch: 0,
        })
    }
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What a library says of itself, read without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub abi: AbiVersion,
    pub sdk: String,
    pub rustc: String,
    pub crate_name: String,
    pub crate_version: String,
    /// At least one; names are legal and differ.
    pub plugins: Vec<(Kind, String)>,
}

fn fault(reason: impl Into<String>) -> Fault {
    Fault::new(code::MANIFEST, reason)
}

/// Reads the text of the section; see `weir_plugin_api::MANIFEST_SECTION`.
pub(super) fn parse(section: &[u8]) -> Result<Manifest, Fault> {
    let text = std::str::from_utf8(section)
        .map_err(|_| fault("its manifest is no UTF-8 text, which this host needs"))?;
    let text = text.trim_end_matches('\0');
    let mut lines = text.lines();
    if lines.next() != Some("manifest=1") {
        return Err(fault(
            "its manifest does not start with `manifest=1`, the only format that this host reads",
        ));
    }
    let mut plugins = Vec::new();
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for line in lines {
        let (key, value) = line.split_once('=').ok_or_else(|| {
            fault(format!(
                "its manifest holds the line {line:?}, where this host needs `key=value`"
            ))
        })?;
        if key == "plugin" {
            plugins.push(plugin(value)?);
        } else if fields.iter().any(|(known, _)| *known == key) {
            return Err(fault(format!(
                "its manifest says `{key}` twice, where this host needs it once"
            )));
        } else {
            fields.push((key, value));
        }
    }
    check_names(&plugins)?;
    let field = |key: &str| {
        let found = fields.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| (*value).to_owned()).ok_or_else(|| {
            fault(format!(
                "its manifest says nothing of `{key}`, which this host needs"
            ))
        })
    };
    let panic = field("panic")?;
    if panic != "unwind" {
        return Err(fault(format!(
            "it was built with panic={panic:?}, and this host needs panic=\"unwind\""
        )));
    }
    let abi = field("api")?;
    Ok(Manifest {
        abi: AbiVersion::parse(&abi).ok_or_else(|| {
            fault(format!(
                "its manifest gives {abi:?} as its ABI version, where this host needs `major.minor.patch`"
            ))
        })?,
        sdk: field("sdk")?,
        rustc: field("rustc")?,
        crate_name: field("crate")?,
        crate_version: field("version")?,
        plugins,
    })
}

fn plugin(value: &str) -> Result<(Kind, String), Fault> {
    let (kind, name) = value.split_once(':').unwrap_or(("", value));
    let kind = match kind {
        "transform" => Kind::Transform,
        "sink" => Kind::Sink,
        _ => {
            return Err(fault(format!(
                "its manifest offers the plugin {value:?}, and this host knows `transform:NAME` and `sink:NAME`"
            )));
        }
    };
    if !is_legal_name(name) {
        return Err(fault(format!(
            "its manifest names a plugin {name:?}, and this host takes names of 1 to 64 of a-z, 0-9, '-' and '_' that start with a letter or digit"
        )));
    }
    Ok((kind, name.to_owned()))
}

fn check_names(plugins: &[(Kind, String)]) -> Result<(), Fault> {
    if plugins.is_empty() || plugins.len() > PLUGINS_MAX {
        return Err(fault(format!(
            "its manifest names {} plugins, and this host takes libraries of 1 to {PLUGINS_MAX}",
            plugins.len()
        )));
    }
    let mut names: Vec<&str> = plugins.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    });
    match twice {
        Some(name) => Err(fault(format!(
            "its manifest names the plugin `{name}` twice, where this host needs one of each name"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "manifest=1\napi=1.2.3\nsdk=0.1.0\nrustc=1.95.0\npanic=unwind\ncrate=c\nversion=0.2.0\nplugin=transform:mask\nplugin=sink:log\n";

    #[test]
    fn a_manifest_gives_what_it_says_and_unknown_keys_are_passed_over() {
        let manifest = parse(format!("{GOOD}colour=blue\n").as_bytes()).expect("a good manifest");
        assert_eq!(manifest.abi.to_string(), "1.2.3");
        assert_eq!(
            (
                manifest.crate_name.as_str(),
                manifest.crate_version.as_str()
            ),
            ("c", "0.2.0")
        );
        let plugins = [
            (Kind::Transform, "mask".to_owned()),
            (Kind::Sink, "log".to_owned()),
        ];
        assert_eq!(manifest.plugins, plugins);
    }

    #[test]
    fn what_a_manifest_may_not_say_is_named() {
        let long = "a".repeat(65);
        let cases = [
            ("manifest=1", "manifest=2", "manifest=1"),
            ("api=1.2.3\n", "", "`api`"),
            ("api=1.2.3", "api=1.2", "\"1.2\""),
            ("api=1.2.3", "api=1.2.3.4", "1.2.3.4"),
            ("panic=unwind", "panic=abort", "panic=\"unwind\""),
            ("crate=c", "crate", "key=value"),
            ("crate=c", "crate=c\ncrate=d", "`crate` twice"),
            ("transform:mask", "source:mask", "source:mask"),
            ("transform:mask", "mask", "\"mask\""),
            ("transform:mask", "transform:Mask", "\"Mask\""),
            ("transform:mask", "transform:-mask", "\"-mask\""),
            ("transform:mask", "transform:", "\"\""),
            ("transform:mask", &format!("transform:{long}"), &long),
            ("sink:log", "sink:mask", "`mask` twice"),
            (
                "plugin=transform:mask\nplugin=sink:log\n",
                "",
                "names 0 plugins",
            ),
        ];
        for (good, bad, says) in cases {
            let text = GOOD.replace(good, bad);
            assert_ne!(text, GOOD, "{good}");
            let fault = parse(text.as_bytes()).expect_err(bad);
            assert_eq!(fault.code, code::MANIFEST);
            assert!(fault.reason.contains(says), "{bad}: {}", fault.reason);
        }
        assert!(parse(&[0xff, 0xfe]).is_err());
        assert!(parse(b"").is_err());
    }
}
