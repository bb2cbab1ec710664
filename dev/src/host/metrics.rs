//! The Prometheus text of a host, as far as the tests read it.

use std::collections::BTreeMap;

/// One sample: name, labels, value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// All samples of one answer.
#[derive(Debug, Clone, Default)]
pub struct Metrics(pub Vec<Sample>);

impl Metrics {
    /// Reads the text format; lines that are no samples are passed over.
    pub fn parse(text: &str) -> Metrics {
        Metrics(text.lines().filter_map(sample).collect())
    }

    /// The sum of all samples of `name` whose labels contain `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| {
                labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
            })
            .map(|sample| sample.value)
            .sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// How far the account of source records is from balance: 0 at any quiet moment.
    pub fn imbalance(&self) -> f64 {
        self.sum("weir_source_records_total", &[])
            - self.sum("weir_records_settled_total", &[])
            - self.sum("weir_records_pending", &[])
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, rest) = match line.find('}') {
        Some(end) => line.split_at_checked(end + 1)?,
        None => line.split_once(' ')?,
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels.trim_end_matches('}'))),
        None => (series, BTreeMap::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// `a="1",b="2"`; the values that hosts write contain neither quotes nor commas.
fn parse_labels(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((key.trim().to_owned(), value.trim_matches('"').to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP weir_source_records records\n\
        # TYPE weir_source_records counter\n\
        weir_source_records_total{pipeline=\"p\",task=\"0\"} 7\n\
        weir_source_records_total{pipeline=\"p\",task=\"1\"} 5\n\
        weir_records_settled_total{pipeline=\"p\",task=\"0\",outcome=\"delivered\"} 9\n\
        weir_records_pending{pipeline=\"p\",task=\"0\"} 2\n\
        up 1 1700000000\n\
        # EOF\n";

    #[test]
    fn sums_by_label() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.0.len(), 5);
        assert_eq!(metrics.sum("weir_source_records_total", &[]), 12.0);
        assert_eq!(
            metrics.sum("weir_source_records_total", &[("task", "1")]),
            5.0
        );
        assert_eq!(
            metrics.sum("weir_source_records_total", &[("task", "2")]),
            0.0
        );
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert_eq!(metrics.imbalance(), 1.0);
        assert!(metrics.has("up") && !metrics.has("down"));
    }
}
