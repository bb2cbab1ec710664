//! The Java runtime that both servers need.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Kafka 4 and Elasticsearch 8 both refuse anything older.
const OLDEST_VERSION: u32 = 17;

/// A Java runtime of at least version 17.
#[derive(Debug, Clone)]
pub struct Java {
    /// The folder that holds `bin/java`.
    pub home: PathBuf,
}

impl Java {
    /// `$JAVA_HOME`'s runtime, else the one in the search path.
    pub fn find() -> Result<Java> {
        let program = env::var_os("JAVA_HOME").map_or_else(
            || OsString::from("java"),
            |home| PathBuf::from(home).join("bin/java").into_os_string(),
        );
        let output = Command::new(&program)
            .args(["-XshowSettings:properties", "-version"])
            .output()
            .with_context(|| {
                format!(
                    "{} cannot be run; install Java {OLDEST_VERSION} (Debian: openjdk-17-jre-headless)",
                    program.display()
                )
            })?;
        let settings = String::from_utf8_lossy(&output.stderr);
        let home = property(&settings, "java.home").context("java does not report java.home")?;
        let version = property(&settings, "java.specification.version").unwrap_or_default();
        match version.parse::<u32>() {
            Ok(number) if number >= OLDEST_VERSION => Ok(Java { home: home.into() }),
            _ => bail!(
                "{} is Java {version}; install Java {OLDEST_VERSION} or newer, or set JAVA_HOME to one",
                program.display()
            ),
        }
    }

    /// The launcher itself.
    pub fn program(&self) -> PathBuf {
        self.home.join("bin/java")
    }
}

fn property<'a>(settings: &'a str, name: &str) -> Option<&'a str> {
    settings.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::property;

    #[test]
    fn a_property_is_read_out_of_the_settings() {
        let text =
            "Property settings:\n    java.home = /opt/jdk\n    java.specification.version = 17\n";
        assert_eq!(property(text, "java.home"), Some("/opt/jdk"));
        assert_eq!(property(text, "java.specification.version"), Some("17"));
        assert_eq!(property(text, "java.vendor"), None);
    }
}
