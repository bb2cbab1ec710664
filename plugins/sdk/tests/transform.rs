//! The safe traits, through the same shims as in a library.

use serde_json::json;
use weir_plugin_sdk::testing::{TestRecord, TransformHarness};
use weir_plugin_sdk::*;

/// Masks digits, refuses long values.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mask {
    /// Longest value, in bytes.
    max_bytes: usize,
}

impl SimpleTransform for Mask {
    fn validate(&self, errors: &mut Errors) {
        errors.check(self.max_bytes > 0, "max_bytes", "must be above 0");
    }

    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        let value = record
            .value()
            .ok_or_else(|| Error::record("mask.null", "the value is null"))?;
        let masked = out.copy_mut(value);
        masked
            .iter_mut()
            .filter(|byte| byte.is_ascii_digit())
            .for_each(|byte| *byte = b'*');
        out.emit(record.with_value(masked));
        assert!(value != b"panic", "asked to panic");
        if value == b"later" {
            return Err(Error::retryable("not yet"));
        }
        if value.len() > self.max_bytes {
            "no number".parse::<u32>()?;
        }
        Ok(())
    }
}

export_plugins! { transform "mask" => Mask: "Masks digits" }

fn mask() -> TransformHarness {
    TransformHarness::new::<Mask>(json!({"max_bytes": 8})).expect("a valid configuration")
}

#[test]
fn records_keep_their_key_and_headers_and_failures_take_their_output_back() {
    let input = [
        TestRecord::value("a1")
            .with_key("k")
            .with_header("h", "v")
            .offset(7),
        TestRecord::value("far too long 1"),
        TestRecord::default(),
        TestRecord::value("b2"),
    ];
    let output = mask().process(&input);
    let texts: Vec<String> = output.records.iter().map(TestRecord::text).collect();
    assert_eq!(texts, ["a*", "b*"]);
    assert_eq!(output.records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(output.records[0].headers, input[0].headers);
    assert_eq!((output.records[0].offset, output.records[0].seq), (7, 1));
    let failures: Vec<(u64, &str)> = output
        .failures
        .iter()
        .map(|failure| (failure.seq, failure.code.as_str()))
        .collect();
    assert_eq!(failures, [(2, "plugin.record_error"), (3, "mask.null")]);
    assert_eq!((output.consumed, output.error), (4, None));
}

#[test]
fn a_retryable_error_stops_before_its_record() {
    let output = mask().process(&[
        TestRecord::value("a"),
        TestRecord::value("later"),
        TestRecord::value("b"),
    ]);
    assert_eq!(output.consumed, 1);
    assert_eq!(output.records.len(), 1);
    assert_eq!(
        output.error,
        Some((api::error_kind::RETRYABLE, "not yet".to_owned()))
    );
}

#[test]
fn a_panic_is_an_error_that_names_its_cause() {
    let output = mask().process(&[TestRecord::value("a"), TestRecord::value("panic")]);
    let (kind, message) = output.error.expect("an error");
    assert_eq!(kind, api::error_kind::PANIC);
    assert!(message.contains("asked to panic"), "{message}");
    assert_eq!(output.consumed, 0);
}

#[test]
fn a_call_ends_after_the_record_at_hand_once_the_host_asks() {
    let mut mask = mask();
    mask.set_yield(true);
    let output = mask.process(&[TestRecord::value("a"), TestRecord::value("b")]);
    assert_eq!((output.consumed, output.records.len()), (1, 1));
}

#[test]
fn outputs_larger_than_a_chunk_and_many_small_ones_keep_their_bytes() {
    let large = "x1".repeat(100_000);
    let mut mask = TransformHarness::new::<Mask>(json!({"max_bytes": 1_000_000}))
        .expect("a valid configuration");
    let mut input: Vec<TestRecord> = (0..10_000)
        .map(|n| TestRecord::value(format!("{n}n")))
        .collect();
    input.push(TestRecord::value(&large));
    let output = mask.process(&input);
    assert_eq!(output.records.len(), input.len());
    assert!(
        output
            .records
            .iter()
            .zip(&input)
            .all(|(out, input)| out.text().len() == input.text().len())
    );
    assert_eq!(output.records[10_000].text(), "x*".repeat(100_000));
}
