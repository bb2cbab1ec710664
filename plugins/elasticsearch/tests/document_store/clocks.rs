//! No wall clock has a say in what is sent, where to, or when.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use weir_plugin_sdk::testing::TestRecord;

use crate::bench::{Bench, record};

/// Middays of 1999 and 2099, and the Unix epoch.
const CLOCKS_MS: [i64; 3] = [915_192_000_000, 4_070_952_000_000, 0];

#[test]
fn case_59_requests_are_the_same_whatever_the_clock_says() {
    let dated = |offset: i64| {
        record(&format!("id{}", offset % 7), offset).at(1_717_199_999_000 + 100 * offset)
    };
    let input: Vec<TestRecord> = (0..40).map(dated).collect();
    for changes in [
        json!({ "index": "{topic}-{%Y.%m.%d}", "max_in_flight": 1 }),
        json!({ "index": "{topic}-{%G-%V}", "version": "timestamp", "max_in_flight": 1 }),
        json!({ "id": "coordinates", "data_stream": true, "max_in_flight": 1 }),
    ] {
        let bodies = CLOCKS_MS.map(|clock_ms| {
            let mut bench = Bench::new(changes.clone());
            bench.sink.set_clock_ms(clock_ms);
            bench.write_and_settle(&input[..20]);
            // Decades back, or forth.
            bench.sink.set_clock_ms(-clock_ms);
            bench.write_and_settle(&input[20..]);
            assert_eq!(bench.count("stored"), 40, "{clock_ms}");
            let bulks = bench.store.observations().bulks();
            let bodies = bulks.iter().map(|bulk| bulk.body.to_vec());
            String::from_utf8(bodies.collect::<Vec<_>>().concat()).expect("text")
        });
        assert!(bodies[0].contains("2024"), "a record's own time does count");
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    }
}

/// Every way to ask what time it is, and the files that may: with what for.
const WALL_CLOCKS: &[&str] = &["SystemTime", "UNIX_EPOCH", "::now()", "now_ms", "clock_ms"];
const ALLOWED: &[(&str, &str)] = &[
    // Has a secret's file changed: compared for equality alone.
    ("credentials.rs", "SystemTime"),
    // A record's age when it is accepted, for the metric of lags.
    ("sink.rs", "now_ms"),
];

/// Ids, indices, versions and pauses are functions of records, answers and the monotonic clock. Two clocks in one run, as
/// above, do not catch a clock that is asked directly, so the source is searched for one.
#[test]
fn case_59_no_other_clock_is_asked() {
    let mut met = Vec::new();
    for (name, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let lines = code.lines().filter_map(|line| line.split("//").next());
        // The monotonic clock.
        for line in lines.map(|line| line.replace("Instant::now()", "")) {
            let found = WALL_CLOCKS.iter().filter(|clock| line.contains(**clock));
            met.extend(found.map(|clock| (name.clone(), *clock)));
        }
    }
    let allowed = |(name, clock): &(String, &str)| ALLOWED.contains(&(name.as_str(), clock));
    let others: Vec<_> = met.iter().filter(|found| !allowed(found)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(!met.is_empty(), "the search finds what is allowed");
}

/// Name and text of every file below `folder` but the tests'.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder");
        let paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        for path in paths {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("text")
                .to_owned();
            if path.is_dir() {
                folders.extend((name != "tests").then_some(path));
            } else if !name.ends_with("_tests.rs") && name != "testing.rs" {
                found.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found
}
