//! Golden tests of the topology file: each folder under `tests/topology` that holds a
//! `connectors.yaml` is a case, `expected.txt` beside it what `weir validate` prints, and
//! `resolved.txt`, for files that are accepted, what the file means. `UPDATE_EXPECT=1` rewrites them.

#[path = "topology_support/plugins.rs"]
mod plugins;

use std::collections::BTreeSet;
use std::env::VarError;
use std::fs;
use std::path::{Path, PathBuf};

use plugins::FakePlugins;
use weir::commands::graph;
use weir::commands::validate::{Format, validate};
use weir::topology::{
    CODES, DIAGNOSTICS_MAX, Document, ParseMode, Report, Topology, plugin_dirs, reference_markdown,
    resolve,
};

const CASES: &str = "tests/topology";

fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "PASSWORD" => Ok("swordfish".into()),
        "PARTITIONS" => Ok("6".into()),
        "EMPTY" => Ok(String::new()),
        _ => Err(VarError::NotPresent),
    }
}

fn load(path: &Path, mode: ParseMode) -> Result<Topology, Report> {
    let document = Document::read(path)?;
    let plugins = FakePlugins::open(&plugin_dirs(&document, &environment));
    resolve(&document, mode, &environment, &plugins)
}

fn load_text(text: &str) -> Result<Topology, Report> {
    let document = Document::parse(
        &Path::new(CASES).join("ok-reference-job/t.yaml"),
        text.to_owned(),
    )?;
    let plugins = FakePlugins::open(&plugin_dirs(&document, &environment));
    resolve(&document, ParseMode::Run, &environment, &plugins)
}

/// What `weir validate` prints, and its exit code.
fn printed(outcome: &Result<Topology, Report>, format: Format) -> (u8, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit =
        validate(outcome, format, false, &mut stdout, &mut stderr).expect("writes to memory");
    let text = |bytes| String::from_utf8(bytes).expect("prints UTF-8");
    (exit, text(stdout), text(stderr))
}

fn cases() -> Vec<PathBuf> {
    let folders = fs::read_dir(CASES)
        .expect("the cases")
        .map(|entry| entry.expect("a case").path());
    let mut cases: Vec<PathBuf> = folders
        .filter(|folder| folder.join("connectors.yaml").exists())
        .collect();
    cases.sort();
    cases
}

fn mode_of(case: &Path) -> ParseMode {
    match case
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("test-mode"))
    {
        true => ParseMode::Test,
        false => ParseMode::Run,
    }
}

/// Compares with a golden file, or rewrites it; returns the difference as text.
fn compare(golden: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(golden, actual).expect("writes the golden file");
        return None;
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    (expected != actual).then(|| {
        format!(
            "{}\n--- expected\n{expected}\n--- actual\n{actual}",
            golden.display()
        )
    })
}

#[test]
fn every_case_prints_what_is_expected() {
    let mut differences = Vec::new();
    for case in cases() {
        let outcome = load(&case.join("connectors.yaml"), mode_of(&case));
        let (exit, stdout, stderr) = printed(&outcome, Format::Text);
        let folder = format!("{}/", case.display());
        let actual =
            format!("exit {exit}\n-- stdout\n{stdout}-- stderr\n{stderr}").replace(&folder, "");
        differences.extend(compare(&case.join("expected.txt"), &actual));
        if let Ok(topology) = &outcome {
            let resolved = format!(
                "http: {:?}\nclock_ms: {:?}\nsecrets: {:?}\n{:#?}\n",
                topology.http, topology.clock_ms, topology.secrets, topology.pipelines
            );
            differences.extend(compare(&case.join("resolved.txt"), &resolved));
        }
        for secret in ["swordfish", "open sesame"] {
            assert!(
                !actual.contains(secret),
                "{} prints a secret:\n{actual}",
                case.display()
            );
            assert!(
                !format!("{outcome:?}").contains(secret),
                "{} debugs a secret",
                case.display()
            );
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Faults that no small file in the repository can show.
fn generated_outcomes(folder: &Path) -> Vec<Result<Topology, Report>> {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("writes the case");
        path
    };
    let unknown: Vec<String> = (0..=DIAGNOSTICS_MAX)
        .map(|at| format!("key{at}: 1\n"))
        .collect();
    let laughs = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        text + &format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        )
    });
    let paths = [
        folder.join("absent.yaml"),
        folder.to_path_buf(),
        // A file used as a folder is neither absent nor readable.
        file("plain", b"x").join("below.yaml"),
        file("large", &vec![b'#'; 4 * 1024 * 1024 + 1]),
        file("latin1", b"version: \xe4\n"),
        file("deep", "[".repeat(100).as_bytes()),
        file("many", unknown.concat().as_bytes()),
        file("laughs", laughs.as_bytes()),
    ];
    paths
        .iter()
        .map(|path| load(path, ParseMode::Run))
        .collect()
}

#[test]
fn every_code_appears_in_a_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = cases()
        .into_iter()
        .map(|case| load(&case.join("connectors.yaml"), mode_of(&case)));
    let outcomes: Vec<_> = golden.chain(generated_outcomes(folder.path())).collect();
    let seen: BTreeSet<&str> = outcomes
        .iter()
        .flat_map(|outcome| match outcome {
            Ok(topology) => &topology.warnings.diagnostics,
            Err(report) => &report.diagnostics,
        })
        .map(|diagnostic| diagnostic.code.as_str())
        .collect();
    let missing: Vec<&str> = CODES
        .iter()
        .map(|row| row.code)
        // What a server says: dev/tests/commands.rs shows both.
        .filter(|code| !code.starts_with("online."))
        .filter(|code| !seen.contains(code))
        .collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    let plain = fs::read_to_string("../connectors.yaml").expect("the repository's topology");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("connectors.yaml");
    fs::create_dir(folder.path().join("plugins.d")).expect("a plugin folder");
    let resolved = |text: &str| {
        fs::write(&path, text).expect("writes");
        let topology =
            load(&path, ParseMode::Run).unwrap_or_else(|report| panic!("{}", report.render(false)));
        format!("{:?}", topology.pipelines)
    };
    let expected = resolved(&plain);
    assert_eq!(resolved(&format!("\u{feff}{plain}")), expected);
    assert_eq!(resolved(&plain.replace('\n', "\r\n")), expected);
}

#[test]
fn json_carries_every_diagnostic_with_the_contract_s_fields() {
    let outcome = load(
        &Path::new(CASES).join("many-faults-at-once/connectors.yaml"),
        ParseMode::Run,
    );
    let (exit, stdout, stderr) = printed(&outcome, Format::Json);
    assert_eq!((exit, stderr.as_str()), (2, ""));
    let rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(&stdout).expect("a JSON array of objects");
    assert_eq!(
        rows.len(),
        outcome.expect_err("is refused").diagnostics.len()
    );
    for row in rows {
        let keys: BTreeSet<&str> = row.keys().map(String::as_str).collect();
        let fields = [
            "code", "severity", "file", "line", "column", "path", "message", "help",
        ];
        assert_eq!(keys, BTreeSet::from(fields));
        for field in ["message", "help"] {
            let text = row[field].as_str().expect("text");
            assert!(text.ends_with(['.', '?']), "{field} is no sentence: {text}");
        }
    }
    let (exit, stdout, _) = printed(&load_text(GOOD), Format::Json);
    assert_eq!((exit, stdout.as_str()), (0, "[]\n"));
}

#[test]
fn every_diagnostic_has_cause_cure_and_a_place_in_its_file() {
    for case in cases() {
        let outcome = load(&case.join("connectors.yaml"), mode_of(&case));
        let report = match &outcome {
            Ok(topology) => &topology.warnings,
            Err(report) => report,
        };
        for row in &report.diagnostics {
            assert!(
                row.message.ends_with(['.', '?']),
                "{}: {}",
                case.display(),
                row.message
            );
            assert!(
                row.help.ends_with(['.', '?']),
                "{}: {}",
                case.display(),
                row.help
            );
            assert!(
                report.source.get(row.span.clone()).is_some(),
                "{}: {row:?}",
                case.display()
            );
            let lines = report.source.lines().count();
            assert!(row.line <= lines + 1, "{}: {row:?}", case.display());
        }
    }
}

#[test]
fn the_repository_s_topology_is_drawn() {
    let topology = load_text(GOOD).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let pictures = format!("{}\n{}", graph::mermaid(&topology), graph::dot(&topology));
    let difference = compare(Path::new("tests/topology/graph.txt"), &pictures);
    assert_eq!(difference, None);
}

#[test]
fn the_reference_page_is_current() {
    let difference = compare(
        Path::new("tests/topology/reference.md"),
        &reference_markdown(),
    );
    assert_eq!(difference, None);
}

const GOOD: &str = include_str!("topology/ok-reference-job/connectors.yaml");

/// splitmix64 (Steele, Lea, Flood 2014): enough chance for a test, and it repeats from its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// Changes a text at a few random places.
fn mutate(text: &str, chance: &mut Chance) -> String {
    const PIECES: &[&str] = &[
        "\t",
        "\n",
        " ",
        "  ",
        ":",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "#",
        "- ",
        "*a",
        "&a ",
        "<<: ",
        "!x ",
        "|",
        ">",
        "%",
        "@",
        "$",
        "${",
        "${X}",
        "${file:x}",
        "$$",
        "~",
        "null",
        "-1",
        "1e9",
        "99999999999999999999",
        "ä",
        "\u{0}",
        "\u{feff}",
        "\u{2028}",
        "---\n",
        "...\n",
        "? ",
        "from: ",
        "kafka: ",
        "\r",
    ];
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=chance.below(4) {
        let at = chance.below(characters.len() + 1);
        match chance.below(4) {
            0 => {
                let end = (at + chance.below(30)).min(characters.len());
                characters.drain(at..end);
            }
            1 => {
                let start = chance.below(characters.len() + 1);
                let end = (start + chance.below(40)).min(characters.len());
                let copy: Vec<char> = characters[start..end].to_vec();
                characters.splice(at..at, copy);
            }
            _ => {
                let piece = PIECES[chance.below(PIECES.len())];
                characters.splice(at..at, piece.chars());
            }
        }
    }
    characters.into_iter().collect()
}

#[test]
fn mutations_never_panic_and_resolve_the_same_twice() {
    let seed = std::env::var("WEIR_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| since.as_nanos() as u64)
        });
    println!("WEIR_TEST_SEED={seed}");
    let mut chance = Chance(seed);
    let many = fs::read_to_string(Path::new(CASES).join("many-faults-at-once/connectors.yaml"))
        .expect("the case");
    let mut refused = 0;
    for round in 0..1_000 {
        let base = if round % 2 == 0 { GOOD } else { &many };
        let text = mutate(base, &mut chance);
        let describe = |outcome: &Result<Topology, Report>| {
            format!(
                "{outcome:?}{}",
                outcome
                    .as_ref()
                    .err()
                    .map(|report| report.render(true))
                    .unwrap_or_default()
            )
        };
        let outcome = load_text(&text);
        refused += usize::from(outcome.is_err());
        assert_eq!(describe(&outcome), describe(&load_text(&text)), "{text}");
    }
    assert!(refused > 500, "only {refused} mutations were refused");
}
