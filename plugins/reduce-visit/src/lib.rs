//! The transform `reduce-visit`: keeps of a visit its id, its event time in unix seconds, and the moment at which its
//! processing starts.
//!
//! ```text
//! in:  {"visit_id": "47348_0", "event_time": "2024-06-01T00:00:00+00:00", "page": "index", ...}
//! out: {"visit":{"id":"47348_0","event_time":1717200000},"start_processing_time_unix_ms":1732280000123}
//! ```
//!
//! Key and headers are kept. What is no visit is refused with the name of the field ([`BadVisit`]).

mod rfc3339;
mod scan;
mod visit;

#[cfg(test)]
mod tests;

pub use visit::{BadVisit, Field, Visit, parse};

use std::time::Duration;

use weir_plugin_sdk::*;

/// Far below the 4 minutes after which the host reports a call as stuck, and below `max.poll.interval.ms` (5 minutes).
const PROCESSING_DELAY_MAX: Duration = Duration::from_secs(120);

/// Settings of `reduce-visit`.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReduceVisitConfig {
    /// How long the processing of each record takes on top, to provoke a late one: the start time is taken, then the
    /// plugin sleeps this long, once for each record. At most `2m`.
    processing_delay: DurationSetting,
}

impl Default for ReduceVisitConfig {
    fn default() -> Self {
        ReduceVisitConfig {
            processing_delay: DurationSetting(Duration::ZERO),
        }
    }
}

/// The transform.
pub struct ReduceVisit {
    processing_delay: Duration,
    /// The output value in the making, kept for its memory.
    reduced: Vec<u8>,
}

impl Transform for ReduceVisit {
    type Config = ReduceVisitConfig;

    fn validate(config: &ReduceVisitConfig, errors: &mut Errors) {
        errors.check(
            config.processing_delay.0 <= PROCESSING_DELAY_MAX,
            "processing_delay",
            "is longer than 2m; the host takes a plugin that needs 4m for a record for stuck",
        );
    }

    fn new(config: ReduceVisitConfig, _context: &Context) -> Result<Self, Error> {
        Ok(ReduceVisit {
            processing_delay: config.processing_delay.0,
            reduced: Vec::new(),
        })
    }

    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        // Without a delay a call is over within a few milliseconds: its beginning is as good, and no clock is read.
        let start_ms = if self.processing_delay.is_zero() {
            out.call_time_ms()
        } else {
            out.clock_ms()
        };
        let visit = record
            .value()
            .ok_or(BadVisit::NullValue)
            .and_then(parse)
            .map_err(refuse)?;
        if !self.processing_delay.is_zero() {
            std::thread::sleep(self.processing_delay);
        }
        self.reduced.clear();
        write_reduced(&visit, start_ms, &mut self.reduced);
        let value = out.copy(&self.reduced);
        out.emit(record.with_value(value));
        Ok(())
    }
}

#[cold]
fn refuse(bad: BadVisit) -> Error {
    Error::record(bad.code(), bad.to_string())
}

fn write_reduced(visit: &Visit<'_>, start_ms: i64, reduced: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    reduced.extend_from_slice(br#"{"visit":{"id":"#);
    write_json_string(&visit.id, reduced);
    reduced.extend_from_slice(br#","event_time":"#);
    reduced.extend_from_slice(digits.format(visit.event_time).as_bytes());
    reduced.extend_from_slice(br#"},"start_processing_time_unix_ms":"#);
    reduced.extend_from_slice(digits.format(start_ms).as_bytes());
    reduced.push(b'}');
}

fn write_json_string(text: &str, json: &mut Vec<u8>) {
    if text
        .bytes()
        .any(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
    {
        // Never fails: the target is memory.
        json.extend(serde_json::to_vec(text).unwrap_or_default());
        return;
    }
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

export_plugins! {
    transform "reduce-visit" => ReduceVisit:
        "Keeps id, event time and processing start of a visit"
}
