//! Lines on stderr.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

use super::{Line, Scrubber};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes lines to stderr in one format, without secrets.
#[derive(Debug, Clone)]
pub struct Printer {
    format: Format,
    is_coloured: bool,
    scrubber: Scrubber,
}

impl Printer {
    /// Colours the text only on a terminal and without `NO_COLOR`.
    pub fn new(format: Format, scrubber: Scrubber) -> Self {
        // An empty NO_COLOR counts as unset, as its informal standard says.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            is_coloured: !no_color && std::io::stderr().is_terminal(),
            scrubber,
        }
    }

    /// Writes one line. `pipeline` is the host that it came from, if it is not this process's own.
    pub fn print(&self, line: &Line, pipeline: Option<&str>) {
        say(&self.render(line, pipeline));
    }

    /// Writes what another process said that is no line of a log, such as the message of a panic.
    pub fn print_foreign(&self, text: &str, pipeline: &str) {
        say(&self.render_foreign(text, pipeline));
    }

    fn render_foreign(&self, text: &str, pipeline: &str) -> String {
        match self.format {
            Format::Text => format!("[{pipeline}] {}", printable(&self.scrubber.scrub(text))),
            Format::Json => {
                let mut line = Line::now("WARN", "stderr");
                text.clone_into(&mut line.message);
                self.render(&line, Some(pipeline))
            }
        }
    }

    fn render(&self, line: &Line, pipeline: Option<&str>) -> String {
        let mut line = line.clone();
        self.scrub(&mut line);
        match self.format {
            Format::Json => {
                if let Some(pipeline) = pipeline.filter(|_| line.text("pipeline").is_none()) {
                    line.push("pipeline", Value::from(pipeline));
                }
                // Text, numbers and booleans under text keys: there is nothing in it that JSON cannot say.
                serde_json::to_string(&line).unwrap_or_default()
            }
            Format::Text => {
                let prefix = pipeline
                    .map(|name| format!("[{name}] "))
                    .unwrap_or_default();
                prefix + &text(&line, self.is_coloured)
            }
        }
    }

    fn scrub(&self, line: &mut Line) {
        let texts = line.fields.iter_mut().filter_map(|(_, value)| match value {
            Value::String(text) => Some(text),
            _ => None,
        });
        for text in texts.chain([&mut line.message]) {
            *text = self.scrubber.scrub(text).into_owned();
        }
    }
}

/// Writes a line to stderr as it is. Nothing happens when nobody reads it any more: a host whose supervisor was
/// killed still has to drain.
pub fn say(line: &str) {
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

fn text(line: &Line, is_coloured: bool) -> String {
    let mut text = String::new();
    let (dim, reset) = if is_coloured {
        ("\x1b[2m", "\x1b[0m")
    } else {
        ("", "")
    };
    let colour = if is_coloured {
        level_colour(&line.level)
    } else {
        ""
    };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        text,
        "{dim}{}{reset} {colour}{:5}{reset}",
        line.timestamp, line.level
    );
    if !line.target.starts_with("weir") {
        let _ = write!(text, " {dim}{}{reset}", line.target);
    }
    if let Some(event) = line.event() {
        let _ = write!(text, " {}:", printable(event));
    }
    if !line.message.is_empty() {
        let _ = write!(text, " {}", printable(&line.message));
    }
    for (name, value) in line.fields.iter().filter(|(name, _)| name != "event") {
        let _ = write!(
            text,
            " {dim}{}={reset}{}",
            printable(name),
            field_text(value)
        );
    }
    text
}

fn level_colour(level: &str) -> &'static str {
    match level {
        "ERROR" => "\x1b[31m",
        "WARN" => "\x1b[33m",
        "INFO" => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// A value without quotes where it is one word.
fn field_text(value: &Value) -> String {
    match value {
        Value::String(text) if is_word(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
}

/// Control characters as escapes: what a record or a server put into an error must not steer a terminal or pass for
/// a line of its own.
fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(format: Format, is_coloured: bool) -> Printer {
        let scrubber = Scrubber::default();
        scrubber.set_secrets(&["hunter2", "INFO"]).expect("small");
        Printer {
            format,
            is_coloured,
            scrubber,
        }
    }

    fn ready() -> Line {
        let mut line = Line::now("INFO", "weir::host");
        line.timestamp = "2024-09-10T13:37:00.000Z".to_owned();
        line.message = "every source has its assignment".to_owned();
        line.push("event", Value::from("ready"));
        line.push("role", Value::from("active"));
        line.push("reason", Value::from("two words"));
        line.push("tasks", Value::from(2));
        line
    }

    #[test]
    fn text_is_one_readable_line() {
        assert_eq!(
            printer(Format::Text, false).render(&ready(), None),
            "2024-09-10T13:37:00.000Z INFO  ready: every source has its assignment role=active \
             reason=\"two words\" tasks=2"
        );
        let prefixed = printer(Format::Text, false).render(&ready(), Some("visits"));
        assert!(prefixed.starts_with("[visits] 2024-09-10T"));
    }

    #[test]
    fn json_has_every_field_at_the_top_and_the_pipeline_once() {
        let json = printer(Format::Json, false).render(&ready(), Some("visits"));
        assert_eq!(
            json,
            "{\"timestamp\":\"2024-09-10T13:37:00.000Z\",\"level\":\"INFO\",\"target\":\"weir::host\",\
             \"message\":\"every source has its assignment\",\"event\":\"ready\",\"role\":\"active\",\
             \"reason\":\"two words\",\"tasks\":2,\"pipeline\":\"visits\"}"
        );
        let parsed = Line::parse(&json).expect("a line");
        let again = printer(Format::Json, false).render(&parsed, Some("visits"));
        assert_eq!(again.matches("pipeline").count(), 1);
    }

    #[test]
    fn secrets_go_from_message_and_fields_and_never_break_the_form() {
        let mut line = ready();
        line.message = "login with hunter2 failed".to_owned();
        line.push("url", Value::from("http://u:hunter2@h"));
        for format in [Format::Text, Format::Json] {
            let rendered = printer(format, false).render(&line, None);
            assert!(!rendered.contains("hunter2"), "{rendered}");
            assert_eq!(rendered.matches("***").count(), 2, "{rendered}");
            assert!(rendered.contains("INFO"), "{rendered}");
        }
    }

    #[test]
    fn foreign_text_gets_the_pipeline_and_loses_its_secrets() {
        let text = printer(Format::Text, false).render_foreign("hunter2 panicked", "visits");
        assert_eq!(text, "[visits] *** panicked");
        let json = printer(Format::Json, false).render_foreign("hunter2 panicked", "visits");
        let line = Line::parse(&json).expect("a line");
        assert_eq!(line.message, "*** panicked");
        assert_eq!(line.text("pipeline"), Some("visits"));
    }

    #[test]
    fn control_characters_stay_in_their_line() {
        let mut line = ready();
        line.message = "a\nb\x1b[2J".to_owned();
        line.push("value", Value::from("x\ny"));
        let rendered = printer(Format::Text, false).render(&line, None);
        assert!(rendered.contains("a\\nb\\u{1b}[2J"), "{rendered}");
        assert!(rendered.contains("value=\"x\\ny\""), "{rendered}");
        assert!(!rendered.contains(['\n', '\x1b']));
        assert!(
            printer(Format::Text, true)
                .render(&line, None)
                .contains("\x1b[32mINFO")
        );
    }
}
