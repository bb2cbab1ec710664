//! Server distributions from Maven coordinates, in a cache outside the source tree.
//!
//! A distribution is downloaded into a folder of its own and gets its final name only when Maven
//! has finished and the list of its files is written: an interrupted download never looks whole.
//! Each use compares the files' sizes with that list, so a damaged cache is repaired.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result, bail};

pub const KAFKA_VERSION: &str = "4.3.1";
pub const ELASTICSEARCH_VERSION: &str = "8.19.20";
/// The newest that runs on Java 17.
pub const OPENSEARCH_VERSION: &str = "2.19.6";

const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";
const FILE_LIST: &str = "files.txt";

/// Names the cache folder: `$WEIR_DEV_CACHE`, else `weir-dev` under the user's cache folder.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("WEIR_DEV_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("weir-dev")))
        .or_else(|| set("HOME").map(|d| d.join(".cache/weir-dev")))
        .context("no place for the cache of server downloads; set WEIR_DEV_CACHE to a folder")
}

/// The folder with Kafka's jars (class path `<folder>/*`); downloads them when they are absent.
pub fn kafka_libs() -> Result<PathBuf> {
    let name = format!("kafka-{KAFKA_VERSION}");
    distribution(&cache_dir()?, &name, |folder| {
        let pom = folder.join("pom.xml");
        fs::write(&pom, kafka_pom()).context("cannot write Kafka's pom.xml")?;
        let copied = maven(&[
            "-f".into(),
            pom.display().to_string(),
            format!("{DEPENDENCY_PLUGIN}:copy-dependencies"),
            format!("-DoutputDirectory={}", folder.display()),
        ]);
        fs::remove_file(&pom).context("cannot remove Kafka's pom.xml")?;
        copied
    })
}

/// The zip file of the stripped distribution that `product` (`elasticsearch`, `opensearch`) publishes for its own
/// integration tests; downloads it when it is absent.
pub fn search_zip(product: &str, version: &str) -> Result<PathBuf> {
    let name = format!("{product}-{version}");
    let artifact = format!("org.{product}.distribution.integ-test-zip:{product}:{version}:zip");
    let folder = distribution(&cache_dir()?, &name, |folder| {
        maven(&[
            format!("{DEPENDENCY_PLUGIN}:copy"),
            format!("-Dartifact={artifact}"),
            format!("-DoutputDirectory={}", folder.display()),
        ])
    })?;
    Ok(folder.join(format!("{name}.zip")))
}

fn kafka_pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>weir</groupId><artifactId>kafka</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{}{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    )
}

/// `<cache>/<name>`, filled by `download` if it is not there whole.
fn distribution(
    cache: &Path,
    name: &str,
    download: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    fs::create_dir_all(cache)
        .with_context(|| format!("cannot make the cache folder {}", cache.display()))?;
    // Two tests that start at once must not download twice.
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock()
        .with_context(|| format!("cannot lock {name} in {}", cache.display()))?;
    let folder = cache.join(name);
    if is_whole(&folder) {
        return Ok(folder);
    }
    eprintln!("weir-dev: downloading {name} into {}", cache.display());
    let partial = cache.join(format!("{name}.partial-{}", process::id()));
    remove_dir(&partial)?;
    fs::create_dir(&partial)?;
    let done = download(&partial).and_then(|()| write_file_list(&partial));
    if let Err(error) = done {
        let _ = remove_dir(&partial);
        return Err(error);
    }
    remove_dir(&folder)?;
    fs::rename(&partial, &folder)?;
    if !is_whole(&folder) {
        bail!("the download of {name} left no files; run mvn by hand to see why");
    }
    Ok(folder)
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn write_file_list(folder: &Path) -> Result<()> {
    let mut list = String::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().context("a file name is not UTF-8")?;
        list.push_str(&format!("{} {name}\n", entry.metadata()?.len()));
    }
    fs::write(folder.join(FILE_LIST), list).context("cannot write the list of files")
}

fn is_whole(folder: &Path) -> bool {
    let Ok(list) = fs::read_to_string(folder.join(FILE_LIST)) else {
        return false;
    };
    let mut lines = list.lines().peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            line.split_once(' ').is_some_and(|(size, name)| {
                fs::metadata(folder.join(name)).is_ok_and(|m| size == m.len().to_string())
            })
        })
}

fn maven(arguments: &[String]) -> Result<()> {
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet"])
        .args(arguments)
        .output()
        .context("mvn cannot be run; install Maven (Debian: maven)")?;
    if !output.status.success() {
        bail!(
            "mvn {} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_files(folder: &Path) -> Result<()> {
        fs::write(folder.join("a.jar"), "12345")?;
        fs::write(folder.join("b.jar"), "123")?;
        Ok(())
    }

    fn never(_: &Path) -> Result<()> {
        bail!("downloaded again")
    }

    #[test]
    fn a_whole_distribution_is_downloaded_once() {
        let cache = tempfile::tempdir().expect("a folder");
        let folder = distribution(cache.path(), "x", two_files).expect("first");
        assert_eq!(
            distribution(cache.path(), "x", never).expect("second"),
            folder
        );
    }

    #[test]
    fn a_damaged_distribution_is_repaired() {
        let cache = tempfile::tempdir().expect("a folder");
        let folder = distribution(cache.path(), "x", two_files).expect("first");
        let damages: [fn(&Path) -> std::io::Result<()>; 3] = [
            |folder| fs::write(folder.join("a.jar"), "12"),
            |folder| fs::remove_file(folder.join("b.jar")),
            |folder| fs::remove_file(folder.join(FILE_LIST)),
        ];
        for damage in damages {
            damage(&folder).expect("damaged");
            assert!(distribution(cache.path(), "x", never).is_err());
            distribution(cache.path(), "x", two_files).expect("repaired");
            assert!(is_whole(&folder));
        }
    }

    #[test]
    fn a_failed_download_leaves_nothing_that_looks_whole() {
        let cache = tempfile::tempdir().expect("a folder");
        let result = distribution(cache.path(), "x", |folder| {
            fs::write(folder.join("a.jar"), "123")?;
            bail!("interrupted")
        });
        assert!(result.is_err());
        assert!(!cache.path().join("x").exists());
        let nothing = distribution(cache.path(), "x", |_| Ok(()));
        assert!(nothing.is_err());
    }
}
