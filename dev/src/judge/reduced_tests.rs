use super::*;

fn record(topic: &str, partition: i32, offset: i64, key: &str, value: &str) -> Record {
    Record {
        topic: topic.to_owned(),
        partition,
        offset,
        timestamp: Timestamp::Append(1_000 + offset),
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

fn visit(id: &str) -> String {
    format!(r#"{{"visit_id":"{id}","event_time":7}}"#)
}

fn reduced(id: &str, start_ms: i64) -> String {
    format!(
        r#"{{"visit":{{"id":"{id}","event_time":7}},"start_processing_time_unix_ms":{start_ms}}}"#
    )
}

/// Three good rows of two keys in partition 0.
fn source() -> BTreeMap<i32, Vec<Record>> {
    let rows = [("k", "a"), ("k", "b"), ("l", "c")];
    let records = rows
        .iter()
        .zip(0..)
        .map(|((key, id), offset)| record("visits", 0, offset, key, &visit(id)))
        .collect();
    BTreeMap::from([(0, records)])
}

fn output(rows: &[(&str, &str)]) -> BTreeMap<i32, Vec<Record>> {
    let records = rows
        .iter()
        .zip(100..)
        .map(|((key, id), offset)| record("reduced", 0, offset, key, &reduced(id, 1_050)))
        .collect();
    BTreeMap::from([(0, records)])
}

fn differences(output: &BTreeMap<i32, Vec<Record>>, delivery: Delivery) -> Vec<String> {
    let case = ReduceCase {
        source: &source(),
        reduced: output,
        dead_letters: &[],
        pipeline: "p",
        plugin: "reduce-visit",
        delivery,
    };
    case.judge().differences().to_vec()
}

const RIGHT: [(&str, &str); 3] = [("l", "c"), ("k", "a"), ("k", "b")];

#[test]
fn a_right_output_has_no_differences() {
    assert!(differences(&output(&RIGHT), Delivery::ExactlyOnce).is_empty());
}

#[test]
fn a_lost_a_doubled_a_swapped_and_a_foreign_record_are_seen() {
    let both = [Delivery::ExactlyOnce, Delivery::AtLeastOnce];
    let swapped = output(&[("k", "b"), ("k", "a"), ("l", "c")]);
    let lost = output(&RIGHT[..2]);
    let foreign = output(&[RIGHT[0], RIGHT[1], RIGHT[2], ("m", "c")]);
    let other_id = output(&[RIGHT[0], RIGHT[1], RIGHT[2], ("k", "z")]);
    for delivery in both {
        for wrong in [&swapped, &lost, &foreign, &other_id] {
            assert!(!differences(wrong, delivery).is_empty(), "{wrong:?}");
        }
    }
    let doubled = output(&[RIGHT[0], RIGHT[1], RIGHT[2], RIGHT[1], RIGHT[2]]);
    assert!(differences(&doubled, Delivery::AtLeastOnce).is_empty());
    assert!(!differences(&doubled, Delivery::ExactlyOnce).is_empty());
}

#[test]
fn the_form_of_a_reduced_record_is_checked() {
    for wrong in [
        "{}",
        "no JSON",
        r#"{"visit":{"id":"c","event_time":7,"x":1},"start_processing_time_unix_ms":1050}"#,
        r#"{"visit":{"id":"c","event_time":7},"start_processing_time_unix_ms":1050,"x":1}"#,
        r#"{"visit":{"id":"c","event_time":"7"},"start_processing_time_unix_ms":1050}"#,
        r#"{"visit":{"id":"c","event_time":7},"start_processing_time_unix_ms":1050.5}"#,
        // Before the first visit was appended, and after its own append.
        &reduced("c", 999),
        &reduced("c", 1_101),
    ] {
        let mut output = output(&RIGHT);
        if let Some(first) = output.get_mut(&0).and_then(|records| records.first_mut()) {
            first.value = Some(wrong.as_bytes().to_vec());
        }
        assert!(
            !differences(&output, Delivery::ExactlyOnce).is_empty(),
            "{wrong}"
        );
    }
}

#[test]
fn a_bad_row_needs_its_dead_letter_and_an_open_one_may_go_both_ways() {
    let judged = |value: &str, output: &[(&str, &str)]| {
        let mut source = source();
        source
            .entry(0)
            .or_default()
            .push(record("visits", 0, 3, "k", value));
        let case = ReduceCase {
            source: &source,
            reduced: &self::output(output),
            dead_letters: &[],
            pipeline: "p",
            plugin: "reduce-visit",
            delivery: Delivery::ExactlyOnce,
        };
        case.judge().differences().len()
    };
    assert_eq!(judged("no JSON", &RIGHT), 1);
    let leap = r#"{"visit_id":"d","event_time":"2016-12-31T23:59:60Z"}"#;
    let with_leap = [RIGHT[0], RIGHT[1], RIGHT[2], ("k", "d")];
    assert_eq!(judged(leap, &with_leap), 0);
    assert_eq!(judged(leap, &RIGHT), 1, "it is lost");
    let with_two = [RIGHT[0], RIGHT[1], RIGHT[2], ("k", "d"), ("k", "e")];
    assert_eq!(judged(leap, &with_two), 1);
}
