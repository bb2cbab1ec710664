//! The document of a window.

use std::fmt::Write;

use jiff::SignedDuration;
use jiff::civil::DateTime;

use crate::percentiles::Summary;

/// What the documents of one pipeline have in common.
#[derive(Clone, Debug)]
pub struct DocumentFormat {
    percentiles: Vec<f64>,
    /// `p50`, `p99_9`, ..., one for each percentile.
    fields: Vec<String>,
}

impl DocumentFormat {
    pub fn new(percentiles: &[f64]) -> Self {
        let fields = percentiles
            .iter()
            .map(|percentile| format!("p{percentile}").replace('.', "_"));
        DocumentFormat {
            percentiles: percentiles.to_vec(),
            fields: fields.collect(),
        }
    }

    pub fn percentiles(&self) -> &[f64] {
        &self.percentiles
    }

    /// The JSON text; equal input gives equal bytes. `timestamp` is [`timestamp_text`] of the window's start.
    pub fn write(&self, timestamp: &str, summary: &Summary) -> String {
        let mut json = format!(r#"{{"@timestamp":"{timestamp}""#);
        let count = summary.count.to_string();
        let percentiles = self
            .fields
            .iter()
            .map(String::as_str)
            .zip(summary.percentiles.iter().map(|p| decimal(*p)));
        let rest = [
            ("count", count),
            ("min", decimal(summary.min)),
            ("max", decimal(summary.max)),
        ];
        for (field, number) in percentiles.chain(rest) {
            // Writing to memory does not fail.
            let _ = write!(json, r#","{field}":{number}"#);
        }
        json.push('}');
        json
    }
}

/// The shortest decimal that reads back as the same double, always with a decimal point and never with an exponent:
/// Elasticsearch maps a field by its first document, and a first `12` would cut the fractions of all later ones.
fn decimal(number: f64) -> String {
    let mut text = number.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

/// `2024-09-10T13:37:00+00:00`. `None` outside the years -9999 to 9999.
pub fn timestamp_text(unix_ms: i64) -> Option<String> {
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let time = epoch
        .checked_add(SignedDuration::from_millis(unix_ms))
        .ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_the_fields_in_order_and_points_in_its_numbers() {
        let format = DocumentFormat::new(&[50.0, 99.9, 0.001]);
        let summary = Summary {
            percentiles: vec![12.0, 740.25, -1e-9],
            count: 29_591,
            min: -3.0,
            max: 253_402_300_799_999.0,
        };
        assert_eq!(
            format.write("T", &summary),
            concat!(
                r#"{"@timestamp":"T","p50":12.0,"p99_9":740.25,"p0_001":-0.000000001,"#,
                r#""count":29591,"min":-3.0,"max":253402300799999.0}"#
            )
        );
    }

    #[test]
    fn numbers_read_back_as_the_same_double() {
        for number in [0.0, -0.0, 0.1 + 0.2, 1e16, 5e-324, f64::MAX, 37.4] {
            let text = decimal(number);
            assert!(text.contains('.') && !text.contains('e'), "{text}");
            assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(number.to_bits()));
        }
    }

    #[test]
    fn timestamps_are_utc_with_an_offset() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (1_725_975_420_000, "2024-09-10T13:37:00+00:00"),
            (253_402_300_740_000, "9999-12-31T23:59:00+00:00"),
        ] {
            assert_eq!(timestamp_text(unix_ms).as_deref(), Some(text));
        }
        assert_eq!(timestamp_text(i64::MAX), None);
    }
}
