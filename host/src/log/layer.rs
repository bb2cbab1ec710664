//! From `tracing` events to lines.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::layer::{Context, Layer};

use super::{Line, Printer};

#[derive(Debug)]
pub(super) struct LineLayer {
    printer: Printer,
}

impl LineLayer {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer }
    }
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.printer.print(&line(event), None);
    }
}

fn line(event: &Event<'_>) -> Line {
    // What came through `log` carries its real target and level in fields.
    let normalized = event.normalized_metadata();
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    let line = Line::now(metadata.level().as_str(), metadata.target());
    let mut visitor = LineVisitor(line);
    event.record(&mut visitor);
    visitor.0
}

struct LineVisitor(Line);

impl LineVisitor {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.0.message = text,
            ("message", other) => self.0.message = other.to_string(),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.0.push(name, value),
        }
    }
}

impl Visit for LineVisitor {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Default, Clone)]
    struct Keep(Arc<Mutex<Vec<Line>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            self.0.lock().expect("alone").push(line(event));
        }
    }

    fn lines(speak: impl FnOnce()) -> Vec<Line> {
        let keep = Keep::default();
        let subscriber = tracing_subscriber::registry().with(keep.clone());
        tracing::subscriber::with_default(subscriber, speak);
        let lines = keep.0.lock().expect("alone");
        lines.clone()
    }

    #[test]
    fn fields_keep_their_types_and_their_order() {
        let error = std::io::Error::other("broken");
        let lines = lines(|| {
            tracing::warn!(
                event = "sink_unavailable",
                task = 3u32,
                is_late = true,
                ratio = 0.5,
                error = %error,
                "sink {} is away",
                "index"
            );
        });
        let [line] = lines.as_slice() else {
            panic!("one line, not {lines:?}");
        };
        assert_eq!(
            (line.level.as_str(), line.message.as_str()),
            ("WARN", "sink index is away")
        );
        assert_eq!(line.target, module_path!());
        let expected = [
            ("event".to_owned(), Value::from("sink_unavailable")),
            ("task".to_owned(), Value::from(3)),
            ("is_late".to_owned(), Value::from(true)),
            ("ratio".to_owned(), Value::from(0.5)),
            ("error".to_owned(), Value::from("broken")),
        ];
        assert_eq!(line.fields, expected);
    }
}
