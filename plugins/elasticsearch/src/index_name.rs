//! The index of a record: a fixed name, or one made of the record's topic and of its own timestamp, never of a clock, so
//! that a replay on another day goes to the same index.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::{Schema, SchemaGenerator, json_schema};
use weir_plugin_sdk::{Deserialize, JsonSchema};

use crate::operation::SourceRecord;
use crate::refusal::{Refusal, code};

/// An index name's limit in Elasticsearch.
const NAME_MAX_BYTES: usize = 255;
/// What a date may be made of: year, month, day, hour, day of the year, ISO year and week.
const DATE_FIELDS: &str = "YmdHjGV";

/// The setting `index`: text in which `{topic}` and dates such as `{%Y.%m.%d}` stand for a record's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IndexPattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    /// A format of `strftime`, in UTC.
    Date(String),
}

impl TryFrom<String> for IndexPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, behind) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` opens a `{{` that no `}}` closes"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(placeholder(inside)?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(IndexPattern { text, parts })
    }
}

fn placeholder(inside: &str) -> Result<Part, String> {
    if inside == "topic" {
        return Ok(Part::Topic);
    }
    let mut characters = inside.chars();
    let mut fields = 0;
    let mut valid = true;
    while let Some(character) = characters.next() {
        match character {
            '%' => {
                fields += 1;
                valid &= characters
                    .next()
                    .is_some_and(|field| DATE_FIELDS.contains(field));
            }
            '.' | '-' | '_' => {}
            _ => valid = false,
        }
    }
    if valid && fields > 0 {
        return Ok(Part::Date(inside.to_owned()));
    }
    Err(format!(
        "`{{{inside}}}` is no part of an index name; write `{{topic}}`, or a date of %Y %m %d %H %j %G %V such as `{{%Y.%m.%d}}`"
    ))
}

impl IndexPattern {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The name that every record has, if it is one.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(name)] => Some(name),
            _ => None,
        }
    }

    pub(crate) fn has_date(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Date(_)))
    }

    /// The rule that every name of this pattern breaks, as the end of a sentence.
    pub(crate) fn broken_rule(&self) -> Option<&'static str> {
        let sample = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Topic => "t".to_owned(),
            Part::Date(_) => "2024".to_owned(),
        });
        broken_rule(&sample.collect::<String>())
    }

    /// The name for one record. Errors: the record lacks a part, or its topic makes no index name.
    fn name(&self, record: &impl SourceRecord) -> Result<String, Refusal> {
        let mut name = String::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Topic => name.push_str(topic_of(record)?),
                Part::Date(format) => push_date(&mut name, format, record)?,
            }
        }
        match broken_rule(&name) {
            None => Ok(name),
            Some(rule) => {
                let name = name.escape_debug();
                let message = format!(
                    "the record's index would be `{name}`, which is no index name: it {rule}"
                );
                Err(Refusal::new(code::INDEX_INVALID, message))
            }
        }
    }
}

fn topic_of(record: &impl SourceRecord) -> Result<&str, Refusal> {
    let topic = record.coordinates().map(|(topic, _, _)| topic);
    topic.ok_or_else(|| {
        let message =
            "the record comes from no single source record, so `index` has no topic for it";
        Refusal::new(code::INDEX_MISSING, message)
    })
}

fn push_date(name: &mut String, format: &str, record: &impl SourceRecord) -> Result<(), Refusal> {
    let missing = |what: &str| {
        Refusal::new(
            code::INDEX_MISSING,
            format!("the record has {what}, and `index` takes a date from it"),
        )
    };
    let timestamp_ms = record
        .timestamp_ms()
        .ok_or_else(|| missing("no timestamp"))?;
    let at = Timestamp::from_millisecond(timestamp_ms)
        .map_err(|_| missing("a timestamp outside of the years -9999 to 9999"))?;
    let text = jiff::fmt::strtime::format(format, &at.to_zoned(TimeZone::UTC))
        .map_err(|_| missing("a timestamp that has no such date"))?;
    name.push_str(&text);
    Ok(())
}

/// Gives out the index of each record; records in a row mostly share one, and then its memory.
#[derive(Debug)]
pub(crate) struct IndexNames {
    pattern: IndexPattern,
    last: RefCell<Arc<str>>,
}

impl IndexNames {
    pub(crate) fn new(pattern: IndexPattern) -> Self {
        let last = RefCell::new(pattern.fixed().unwrap_or_default().into());
        IndexNames { pattern, last }
    }

    /// Errors: as [`IndexPattern::name`].
    pub(crate) fn of(&self, record: &impl SourceRecord) -> Result<Arc<str>, Refusal> {
        let mut last = self.last.borrow_mut();
        if self.pattern.fixed().is_none() {
            let name = self.pattern.name(record)?;
            if **last != *name {
                *last = name.into();
            }
        }
        Ok(Arc::clone(&last))
    }
}

/// The rule of Elasticsearch that a name breaks, as the end of a sentence.
fn broken_rule(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > NAME_MAX_BYTES {
        return Some("is longer than 255 bytes");
    }
    if name == "." || name == ".." {
        return Some("may not be `.` or `..`");
    }
    if name.starts_with(['-', '_', '+']) {
        return Some("may not begin with `-`, `_` or `+`");
    }
    if name.chars().any(char::is_uppercase) {
        return Some("must be in lower case");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "\\/*?\"<>|,#:".contains(c);
    name.contains(forbidden)
        .then_some("may not contain spaces or any of \\ / * ? \" < > | , # :")
}

impl fmt::Display for IndexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for IndexPattern {
    fn schema_name() -> Cow<'static, str> {
        "IndexPattern".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Plain;

    fn pattern(text: &str) -> IndexPattern {
        IndexPattern::try_from(text.to_owned()).expect(text)
    }

    fn at(timestamp_ms: Option<i64>, topic: Option<&'static str>) -> Plain<'static> {
        Plain {
            timestamp_ms,
            coordinates: topic.map(|topic| (topic, 0, 1)),
            ..Plain::default()
        }
    }

    #[test]
    fn index_names_follow_the_rules_of_the_server() {
        for good in [
            "visits",
            "visits-2024.06",
            "a_b+c",
            ".hidden",
            "ä",
            "{topic}-{%G}w{%V}",
        ] {
            assert_eq!(pattern(good).broken_rule(), None, "{good}");
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "+a",
            "Visits",
            "a b",
            "a/b",
            "a:b",
            "a#b",
            "a,b",
            "a\nb",
            &long,
            "A-{topic}",
            "-{%Y}",
        ] {
            assert!(pattern(bad).broken_rule().is_some(), "{bad}");
        }
        for unreadable in [
            "{", "a{topic", "{}", "{Topic}", "{%}", "{%Q}", "{%s}", "{.}", "{%Y %m}",
        ] {
            assert!(
                IndexPattern::try_from(unreadable.to_owned()).is_err(),
                "{unreadable}"
            );
        }
    }

    #[test]
    fn case_43_and_59_the_date_is_the_records_own() {
        // One millisecond before and at midnight UTC; no clock is asked, so a replay at any time makes the same names.
        let names = IndexNames::new(pattern("v-{topic}-{%Y.%m.%d}"));
        let name = |ms| {
            names
                .of(&at(Some(ms), Some("visits")))
                .expect("a name")
                .to_string()
        };
        assert_eq!(name(1_717_199_999_999), "v-visits-2024.05.31");
        assert_eq!(name(1_717_200_000_000), "v-visits-2024.06.01");
        assert_eq!(name(1_717_199_999_999), "v-visits-2024.05.31");
        assert_eq!(name(-1), "v-visits-1969.12.31");
    }

    #[test]
    fn a_record_without_the_parts_of_its_index_is_refused() {
        let refused = |text, record: Plain<'_>| {
            IndexNames::new(pattern(text))
                .of(&record)
                .expect_err("refused")
                .code
        };
        assert_eq!(refused("{%Y}", at(None, None)), code::INDEX_MISSING);
        assert_eq!(
            refused("{%Y}", at(Some(i64::MAX), None)),
            code::INDEX_MISSING
        );
        assert_eq!(refused("{topic}", at(Some(1), None)), code::INDEX_MISSING);
        assert_eq!(
            refused("{topic}", at(Some(1), Some("Visits"))),
            code::INDEX_INVALID
        );
        assert_eq!(
            refused("{topic}", at(Some(1), Some("_visits"))),
            code::INDEX_INVALID
        );
    }

    #[test]
    fn records_of_one_index_share_its_name() {
        let names = IndexNames::new(pattern("{%Y}"));
        let [first, second] = [1, 2].map(|ms| names.of(&at(Some(ms), None)).expect("a name"));
        assert!(Arc::ptr_eq(&first, &second));
    }
}
