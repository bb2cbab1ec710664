use weir_plugin_sdk::testing::{TestRecord, TransformHarness};

use super::*;

fn parsed(text: &str) -> Result<(String, i64), &'static str> {
    parse(text.as_bytes())
        .map(|visit| (visit.id.into_owned(), visit.event_time))
        .map_err(|bad| bad.code())
}

fn with_id(json: &str) -> Result<String, &'static str> {
    parsed(&format!(r#"{{"visit_id":{json},"event_time":0}}"#)).map(|(id, _)| id)
}

fn with_time(json: &str) -> Result<i64, &'static str> {
    parsed(&format!(r#"{{"visit_id":"a","event_time":{json}}}"#)).map(|(_, time)| time)
}

#[test]
fn ids_are_texts_or_integers() {
    for (json, id) in [
        (r#""47348139735141694336_0""#, "47348139735141694336_0"),
        (r#"" ""#, " "),
        (
            r#""a\"b\\c\/d\u0000\n\u00e9\ud83d\ude00""#,
            "a\"b\\c/d\0\né😀",
        ),
        (r#""日本""#, "日本"),
        ("0", "0"),
        ("-0", "0"),
        ("-7", "-7"),
        ("9223372036854775807", "9223372036854775807"),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
    ] {
        assert_eq!(with_id(json).as_deref(), Ok(id), "{json}");
    }
    for (json, code) in [
        (r#""""#, "reduce-visit.field_empty"),
        ("null", "reduce-visit.field_null"),
        ("true", "reduce-visit.wrong_type"),
        ("{}", "reduce-visit.wrong_type"),
        (r#"["a"]"#, "reduce-visit.wrong_type"),
        ("1.0", "reduce-visit.not_an_integer"),
        ("-0.0", "reduce-visit.not_an_integer"),
        ("1e3", "reduce-visit.not_an_integer"),
        ("1E3", "reduce-visit.not_an_integer"),
        ("18446744073709551616", "reduce-visit.out_of_range"),
        ("-9223372036854775809", "reduce-visit.out_of_range"),
        (r#""\ud800""#, "reduce-visit.bad_escape"),
        (r#""\ud800\u0041""#, "reduce-visit.bad_escape"),
        (r#""\x""#, "reduce-visit.not_json"),
        ("01", "reduce-visit.not_json"),
        ("+1", "reduce-visit.not_json"),
        ("NaN", "reduce-visit.not_json"),
        ("\"a\nb\"", "reduce-visit.not_json"),
    ] {
        assert_eq!(with_id(json).err(), Some(code), "{json}");
    }
}

#[test]
fn event_times_are_texts_or_unix_seconds() {
    for (json, time) in [
        (r#""2024-06-01T00:00:00+00:00""#, 1_717_200_000),
        (r#""2024-06-01T00:00:00\u005a""#, 1_717_200_000),
        ("1717200000", 1_717_200_000),
        ("-0", 0),
        ("-62135596800", -62_135_596_800),
        ("253402300799", 253_402_300_799),
    ] {
        assert_eq!(with_time(json), Ok(time), "{json}");
    }
    for (json, code) in [
        ("-62135596801", "reduce-visit.out_of_range"),
        ("253402300800", "reduce-visit.out_of_range"),
        ("1717200000000", "reduce-visit.out_of_range"),
        ("99999999999999999999999", "reduce-visit.out_of_range"),
        ("1717200000.0", "reduce-visit.not_an_integer"),
        ("1.7e9", "reduce-visit.not_an_integer"),
        (r#""""#, "reduce-visit.bad_time"),
        (r#""1717200000""#, "reduce-visit.bad_time"),
        (r#""\udc00""#, "reduce-visit.bad_escape"),
        ("null", "reduce-visit.field_null"),
        ("false", "reduce-visit.wrong_type"),
        ("[]", "reduce-visit.wrong_type"),
    ] {
        assert_eq!(with_time(json).err(), Some(code), "{json}");
    }
}

#[test]
fn only_whole_objects_are_visits() {
    let good = ("a".to_owned(), 1);
    for text in [
        r#"{"visit_id":"a","event_time":1}"#,
        " \t\r\n{ \"event_time\" : 1 , \"visit_id\" : \"a\" } ",
        r#"{"visit\u005fid":"a","\u0065vent_time":1}"#,
        r#"{"Visit_id":null,"visit_ids":0,"x":{"visit_id":null},"y":[1e999,-0.5,{"event_time":[]}],"visit_id":"a","event_time":1}"#,
        r#"{"visit_id":null,"visit_id":"a","event_time":1}"#,
    ] {
        assert_eq!(parsed(text).as_ref(), Ok(&good), "{text}");
    }
    let deep = format!(
        r#"{{"x":{}{},"visit_id":"a","event_time":1}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(parsed(&deep).as_ref(), Ok(&good));
    for (text, code) in [
        ("", "reduce-visit.not_json"),
        ("{........", "reduce-visit.not_json"),
        ("{}", "reduce-visit.field_missing"),
        (r#"{"visit_id":"a"}"#, "reduce-visit.field_missing"),
        (r#"{"visit_id":"a","event_time":1"#, "reduce-visit.not_json"),
        (
            r#"{"visit_id":"a","event_time":1}}"#,
            "reduce-visit.not_json",
        ),
        (
            r#"{"visit_id":"a","event_time":1,}"#,
            "reduce-visit.not_json",
        ),
        (
            r#"{"visit_id":"a","event_time":1,"x":tru}"#,
            "reduce-visit.not_json",
        ),
        (
            r#"{"visit_id":"a","event_time":1,"x":"\q"}"#,
            "reduce-visit.not_json",
        ),
        (
            r#"{'visit_id':'a','event_time':1}"#,
            "reduce-visit.not_json",
        ),
        ("[]", "reduce-visit.not_an_object"),
        ("null", "reduce-visit.not_an_object"),
        ("7", "reduce-visit.not_an_object"),
        (r#""{}""#, "reduce-visit.not_an_object"),
    ] {
        assert_eq!(parsed(text).err(), Some(code), "{text}");
    }
}

#[test]
fn utf8_is_checked_everywhere() {
    let value = b"{\"visit_id\":\"a\",\"event_time\":1,\"page\":\"\xC3\x28\"}";
    assert_eq!(parse(value), Err(BadVisit::NotUtf8 { valid_up_to: 39 }));
    assert_eq!(
        parse(b"\xFF").map_err(|bad| bad.code()),
        Err("reduce-visit.not_utf8")
    );
}

#[test]
fn messages_name_the_field_and_stay_short() {
    let message = |text: &str| parse(text.as_bytes()).expect_err("bad").to_string();
    assert!(message(r#"{"event_time":1}"#).contains("visit_id"));
    assert!(message(r#"{"visit_id":"a","event_time":{}}"#).contains("event_time"));
    let long = format!(
        r#"{{"visit_id":"a","event_time":"{}"}}"#,
        "9".repeat(100_000)
    );
    assert!(message(&long).len() < 200);
    assert!(message(&"[".repeat(100_000)).len() < 200);
}

fn harness(config: serde_json::Value) -> TransformHarness {
    TransformHarness::new::<ReduceVisit>(config).expect("a valid configuration")
}

#[test]
fn a_visit_is_reduced_and_keeps_key_and_headers() {
    let mut transform = harness(serde_json::json!({}));
    transform.set_clock_ms(1_732_280_000_123);
    let row = concat!(
        r#"{"visit_id": "47348139735141694336_0", "event_time": "2024-06-01T00:00:00+00:00", "page": "index", "#,
        r#""keep_private": false, "context": {"referral": "Medium", "user": {"ip": "184.170.37.22"}}}"#,
    );
    let input = TestRecord::value(row)
        .with_key("k")
        .with_header("h", "v")
        .at(5)
        .offset(9)
        .slot(3);
    let output = transform.process(&[
        input.clone(),
        TestRecord::default(),
        TestRecord::value("{........"),
    ]);
    assert_eq!(output.consumed, 3);
    assert_eq!(output.error, None);
    let reduced = r#"{"visit":{"id":"47348139735141694336_0","event_time":1717200000},"start_processing_time_unix_ms":1732280000123}"#;
    assert_eq!(
        output.records,
        [TestRecord {
            value: Some(reduced.into()),
            seq: 1,
            ..input
        }]
    );
    let codes: Vec<(u64, &str)> = output
        .failures
        .iter()
        .map(|failure| (failure.seq, failure.code.as_str()))
        .collect();
    assert_eq!(
        codes,
        [(2, "reduce-visit.null_value"), (3, "reduce-visit.not_json")]
    );
}

#[test]
fn ids_are_escaped_again() {
    let mut transform = harness(serde_json::json!({}));
    let id = "a\"\\\n\u{1}é\u{7f}";
    let row = serde_json::json!({"visit_id": id, "event_time": 1}).to_string();
    let output = transform.process(&[TestRecord::value(row)]);
    let value: serde_json::Value = serde_json::from_str(&output.records[0].text()).expect("JSON");
    assert_eq!(value["visit"]["id"], id);
}

#[test]
fn a_delay_holds_each_record_back_and_gives_the_thread_back() {
    let mut transform = harness(serde_json::json!({"processing_delay": "20ms"}));
    transform.set_clock_ms(77);
    transform.set_yield(true);
    let row = TestRecord::value(r#"{"visit_id":"a","event_time":1}"#);
    let before = std::time::Instant::now();
    let output = transform.process(&[row.clone(), row]);
    // A lower bound only, which `sleep` promises.
    assert!(before.elapsed() >= Duration::from_millis(20));
    assert_eq!(output.consumed, 1);
    assert!(
        output.records[0]
            .text()
            .ends_with(r#""start_processing_time_unix_ms":77}"#)
    );
}

#[test]
fn configurations_are_checked() {
    let check = |json: serde_json::Value| -> Result<Vec<String>, String> {
        let config =
            serde_json::from_value(json).map_err(|error: serde_json::Error| error.to_string())?;
        let mut errors = Errors::default();
        ReduceVisit::validate(&config, &mut errors);
        Ok(errors.iter().map(|(path, _)| path.to_owned()).collect())
    };
    assert_eq!(check(serde_json::json!({})), Ok(vec![]));
    assert_eq!(
        check(serde_json::json!({"processing_delay": "2m"})),
        Ok(vec![])
    );
    assert_eq!(
        check(serde_json::json!({"processing_delay": "3m"})),
        Ok(vec!["/processing_delay".to_owned()])
    );
    assert!(check(serde_json::json!({"processing_delay": "soon"})).is_err());
    assert!(check(serde_json::json!({"delay": "1s"})).is_err());
}

#[test]
fn the_schema_describes_each_setting_and_its_default() {
    let schema = schemars::schema_for!(ReduceVisitConfig);
    let delay = &schema.as_value()["properties"]["processing_delay"];
    assert_eq!(delay["default"], "0s");
    assert!(
        delay["description"]
            .as_str()
            .is_some_and(|text| text.contains("once for each record"))
    );
}
