//! The documents and dead letters of a pipeline that writes each record as the document of its key, recomputed from its
//! source topic: ids are keys, versions are offsets, sources are values.

use std::collections::BTreeMap;

use crate::client::Record;

use super::dead_letters::{DeadLetterRules, check_dead_letter, coordinates};
use super::reduced::Delivery;
use super::report::Report;

/// Version and source text by id.
pub type Documents = BTreeMap<String, (i64, String)>;

/// Everything that the judgement needs. A key stays in one partition.
pub struct StoredCase<'a> {
    pub source: &'a BTreeMap<i32, Vec<Record>>,
    pub documents: &'a Documents,
    pub dead_letters: &'a [Record],
    pub pipeline: &'a str,
    /// Whether the sink or its server has to refuse the record.
    pub is_bad: &'a dyn Fn(&Record) -> bool,
    /// Whether dead letters may repeat; documents never do.
    pub delivery: Delivery,
}

impl StoredCase<'_> {
    pub fn judge(&self) -> Report {
        let mut report = Report::default();
        self.judge_documents(&mut report);
        self.judge_dead_letters(&mut report);
        report
    }

    fn judge_documents(&self, report: &mut Report) {
        let mut model = Documents::new();
        let records = self.source.values().flatten();
        for record in records.filter(|record| !(self.is_bad)(record)) {
            model.insert(text(&record.key), (record.offset, text(&record.value)));
        }
        for (id, wanted) in &model {
            match self.documents.get(id) {
                Some(found) if found == wanted => {}
                found => report.differ(format!("document {id} is {found:?}, not {wanted:?}")),
            }
        }
        for id in self.documents.keys().filter(|id| !model.contains_key(*id)) {
            report.differ(format!("document {id} comes from no record"));
        }
        report.count("documents", model.len());
    }

    fn judge_dead_letters(&self, report: &mut Report) {
        let rules = DeadLetterRules {
            pipeline: self.pipeline,
            stage: "TASK_PUT",
            plugin: Some("elasticsearch"),
        };
        let records = self.source.values().flatten();
        let mut bad: BTreeMap<(i32, i64), (&Record, usize)> = records
            .filter(|record| (self.is_bad)(record))
            .map(|record| ((record.partition, record.offset), (record, 0)))
            .collect();
        for letter in self.dead_letters {
            let found = coordinates(letter)
                .and_then(|(_, partition, offset)| bad.get_mut(&(partition, offset)));
            let Some((record, letters)) = found else {
                report.differ(format!("a dead letter of no bad record: {letter:?}"));
                continue;
            };
            *letters += 1;
            check_dead_letter(letter, record, &rules, report);
        }
        for ((partition, offset), (_, letters)) in &bad {
            let is_right = match self.delivery {
                Delivery::ExactlyOnce => *letters == 1,
                Delivery::AtLeastOnce => *letters >= 1,
            };
            if !is_right {
                report.differ(format!("{letters} dead letters of {partition}@{offset}"));
            }
        }
        report.count("bad records", bad.len());
        report.count("dead letters", self.dead_letters.len());
    }
}

fn text(bytes: &Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Timestamp;

    fn record(offset: i64, key: &str, value: &str) -> Record {
        Record {
            topic: "rows".to_owned(),
            partition: 0,
            offset,
            timestamp: Timestamp::None,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    fn differences(documents: &[(&str, i64, &str)], dead_letters: &[Record]) -> usize {
        let rows = [(0, "a", "{}"), (1, "a", "{ }"), (2, "b", "bad")];
        let rows = rows.map(|(offset, key, value)| record(offset, key, value));
        let documents = documents.iter().copied();
        let documents = documents
            .map(|(id, version, source)| (id.to_owned(), (version, source.to_owned())))
            .collect();
        StoredCase {
            source: &BTreeMap::from([(0, rows.to_vec())]),
            documents: &documents,
            dead_letters,
            pipeline: "p",
            is_bad: &|record| record.value.as_deref() == Some(b"bad"),
            delivery: Delivery::ExactlyOnce,
        }
        .judge()
        .differences()
        .len()
    }

    #[test]
    fn the_last_record_of_each_key_is_its_document() {
        // The missing dead letter.
        assert_eq!(differences(&[("a", 1, "{ }")], &[]), 1);
        assert_eq!(differences(&[], &[]), 2);
        assert_eq!(differences(&[("a", 0, "{}")], &[]), 2);
        assert_eq!(differences(&[("a", 1, "{}")], &[]), 2);
        assert_eq!(differences(&[("a", 1, "{ }"), ("b", 2, "bad")], &[]), 2);
        // A letter without headers belongs to nobody.
        assert_eq!(differences(&[("a", 1, "{ }")], &[record(9, "b", "bad")]), 2);
    }
}
