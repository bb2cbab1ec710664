//! The ten headers of a dead letter, and what else it keeps of its source record.

use crate::client::{Record, Timestamp};

use super::report::Report;

const PREFIX: &str = "__connect.errors.";
const MESSAGE_LIMIT_BYTES: usize = 1_024;
const STACKTRACE_LIMIT_BYTES: usize = 4_096;

/// What the headers have to say beside the source's coordinates.
#[derive(Debug, Clone)]
pub struct DeadLetterRules<'a> {
    pub pipeline: &'a str,
    /// `TRANSFORMATION`, `TASK_PUT` or `KAFKA_PRODUCE`.
    pub stage: &'a str,
    /// The plugin; `None` where no plugin took part (a Kafka sink refused the record).
    pub plugin: Option<&'a str>,
}

/// The coordinates that a dead letter names, where they can be read.
pub(super) fn coordinates(letter: &Record) -> Option<(&str, i32, i64)> {
    Some((
        letter.header_text("__connect.errors.topic")?,
        letter
            .header_text("__connect.errors.partition")?
            .parse()
            .ok()?,
        letter
            .header_text("__connect.errors.offset")?
            .parse()
            .ok()?,
    ))
}

/// Compares a dead letter with the record that it was made of.
pub fn check_dead_letter(
    letter: &Record,
    source: &Record,
    rules: &DeadLetterRules<'_>,
    report: &mut Report,
) {
    let place = format!("{}-{}@{}", source.topic, source.partition, source.offset);
    let mut differ = |what: String| report.differ(format!("dead letter of {place}: {what}"));
    if letter.key != source.key {
        differ("another key".to_owned());
    }
    if letter.value != source.value {
        differ("another value".to_owned());
    }
    let kept: Vec<_> = letter
        .headers
        .iter()
        .filter(|(name, _)| !name.starts_with(PREFIX))
        .collect();
    if !kept.iter().copied().eq(source.headers.iter()) {
        differ(format!("headers {kept:?} for {:?}", source.headers));
    }
    // On a LogAppendTime topic the broker has replaced it.
    if let Timestamp::Create(ms) = letter.timestamp
        && Some(ms) != source.timestamp.ms()
    {
        differ(format!("timestamp {ms} for {:?}", source.timestamp));
    }
    for problem in header_problems(letter, source, rules) {
        differ(problem);
    }
}

fn header_problems(letter: &Record, source: &Record, rules: &DeadLetterRules<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |name: &str, wanted: &str, is_right: &dyn Fn(&str) -> bool| {
        let full = format!("{PREFIX}{name}");
        let times = letter.headers.iter().filter(|(n, _)| *n == full).count();
        match letter.header_text(&full) {
            Some(text) if times == 1 && is_right(text) => {}
            found => problems.push(format!("{full} is {found:?} ({times} times), not {wanted}")),
        }
    };
    let mut equals = |name: &str, text: &str| check(name, text, &|found| found == text);
    equals("topic", &source.topic);
    equals("partition", &source.partition.to_string());
    equals("offset", &source.offset.to_string());
    equals("connector.name", rules.pipeline);
    equals("stage", rules.stage);
    match rules.plugin {
        Some(plugin) => equals("class.name", plugin),
        None => check("class.name", "a name", &|found| !found.is_empty()),
    }
    check("task.id", "a number", &|found| found.parse::<u32>().is_ok());
    check("exception.class.name", "a stable code", &is_code);
    check("exception.message", "1 to 1,024 bytes", &|found| {
        (1..=MESSAGE_LIMIT_BYTES).contains(&found.len())
    });
    check("exception.stacktrace", "1 to 4,096 bytes", &|found| {
        (1..=STACKTRACE_LIMIT_BYTES).contains(&found.len())
    });
    let known = letter.headers.iter().filter(|(n, _)| n.starts_with(PREFIX));
    let number = known.count();
    if number != 10 {
        problems.push(format!("{number} headers {PREFIX}*, not 10"));
    }
    problems
}

/// A dotted code such as `reduce_visit.event_time`, or a plain one; never a sentence.
fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Record {
        Record {
            topic: "visits".to_owned(),
            partition: 1,
            offset: 42,
            timestamp: Timestamp::Append(1_000),
            key: Some(b"k".to_vec()),
            value: None,
            headers: vec![("own".to_owned(), Some(b"1".to_vec()))],
        }
    }

    fn letter() -> Record {
        let mut letter = source();
        letter.timestamp = Timestamp::Create(1_000);
        for (name, value) in [
            ("topic", "visits"),
            ("partition", "1"),
            ("offset", "42"),
            ("connector.name", "p"),
            ("task.id", "0"),
            ("stage", "TRANSFORMATION"),
            ("class.name", "reduce-visit"),
            ("exception.class.name", "reduce_visit.null_value"),
            ("exception.message", "the value is null"),
            ("exception.stacktrace", "the value is null"),
        ] {
            let value = Some(value.as_bytes().to_vec());
            letter.headers.push((format!("{PREFIX}{name}"), value));
        }
        letter
    }

    fn problems(letter: &Record) -> usize {
        let rules = DeadLetterRules {
            pipeline: "p",
            stage: "TRANSFORMATION",
            plugin: Some("reduce-visit"),
        };
        let mut report = Report::default();
        check_dead_letter(letter, &source(), &rules, &mut report);
        report.differences().len()
    }

    #[test]
    fn a_right_letter_has_no_differences() {
        assert_eq!(problems(&letter()), 0);
        assert_eq!(coordinates(&letter()), Some(("visits", 1, 42)));
    }

    #[test]
    fn every_damage_is_seen() {
        let damages: [fn(&mut Record); 8] = [
            |l| l.key = None,
            |l| l.value = Some(Vec::new()),
            |l| l.timestamp = Timestamp::Create(1_001),
            |l| l.headers.rotate_left(1),
            |l| l.headers.retain(|(name, _)| name != "own"),
            |l| l.headers[1].1 = Some(b"other".to_vec()),
            |l| l.headers[8].1 = Some(b"A sentence.".to_vec()),
            |l| l.headers[9].1 = Some(vec![b'x'; MESSAGE_LIMIT_BYTES + 1]),
        ];
        for (index, damage) in damages.into_iter().enumerate() {
            let mut letter = letter();
            damage(&mut letter);
            // Rotating only moves the one original header behind the ten: still the same order.
            let wanted = usize::from(index != 3);
            assert_eq!(problems(&letter), wanted, "damage {index}");
        }
        for header in 1..=10 {
            let mut letter = letter();
            letter.headers.remove(header);
            assert_eq!(problems(&letter), 2, "header {header} missing");
        }
    }
}
