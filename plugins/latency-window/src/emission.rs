//! What leaves for a closed window, the same whether one host measured it or many.

use weir_plugin_sdk::{Context, Error, Out, Record};

use crate::config::LatencyWindowConfig;
use crate::document::{DocumentFormat, timestamp_text};
use crate::percentiles::{DISTINCT_VALUES_MAX, Distribution};

/// Header with the version of a document, as decimal text.
const VERSION_HEADER: &str = "weir.version";

/// A version is `epoch * 2^40 + count`: 10^12 records in a window.
const VERSION_COUNT_BITS: u32 = 40;

/// In place of a slot, for what comes from several.
const ALL_SLOTS: u32 = u32::MAX;

/// Makes the documents of one pipeline.
pub struct Documents {
    size_ms: i64,
    epoch: u64,
    format: DocumentFormat,
    context: Context,
}

impl Documents {
    pub fn new(config: &LatencyWindowConfig, size_ms: i64, context: &Context) -> Self {
        Documents {
            size_ms,
            epoch: config.epoch,
            format: DocumentFormat::new(&config.percentiles),
            context: context.clone(),
        }
    }

    /// Emits the document of the window that starts at `start_ms` and holds `merged`; nothing if that is empty.
    pub fn emit(
        &self,
        start_ms: i64,
        merged: &Distribution,
        out: &mut Out<'_, '_>,
    ) -> Result<(), Error> {
        let Some(summary) = merged.summary(self.format.percentiles()) else {
            return Ok(());
        };
        let timestamp = timestamp_text(start_ms).ok_or_else(|| {
            Error::fatal(
                "latency-window.state",
                format!("a window starts at {start_ms} ms"),
            )
        })?;
        if !merged.is_exact() {
            self.context.debug(format!(
                "the percentiles of {timestamp} are estimates: it has more than {DISTINCT_VALUES_MAX} distinct latencies"
            ));
        }
        let document = self.format.write(&timestamp, &summary);
        let count = summary.count.min((1 << VERSION_COUNT_BITS) - 1);
        let version = ((self.epoch << VERSION_COUNT_BITS) + count).to_string();
        let headers = out.headers(&[(VERSION_HEADER, Some(version.as_bytes()))]);
        let record = Record::derived(ALL_SLOTS)
            .with_key(Some(out.copy(timestamp.as_bytes())))
            .with_value(out.copy(document.as_bytes()))
            .with_headers(headers)
            // The last moment that belongs to the window, as Flink stamps it.
            .with_timestamp_ms(start_ms + self.size_ms - 1);
        out.emit(record);
        Ok(())
    }
}
