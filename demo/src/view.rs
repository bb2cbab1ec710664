//! What the demo shows, as text: pure functions of a snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::host::PipelineLog;
use crate::observe::Counts;
use crate::readiness::Readiness;
use crate::windows::{Arrival, SLA_P90_MS, Window};

/// Rates are means over this time: long enough not to flicker, short enough to follow.
const RATE_SPAN: Duration = Duration::from_secs(5);
/// Reasons in one line, the most frequent first.
const REASONS_SHOWN: usize = 6;

/// Counts per second of the visits sent, the visits reduced and the dead letters.
#[derive(Debug, Default)]
pub struct Rates {
    samples: VecDeque<(Instant, [u64; 3])>,
}

impl Rates {
    pub fn sample(&mut self, now: Instant, totals: [u64; 3]) {
        self.samples.push_back((now, totals));
        while self.samples.len() > 2
            && self
                .samples
                .get(1)
                .is_some_and(|(at, _)| now.duration_since(*at) >= RATE_SPAN)
        {
            self.samples.pop_front();
        }
    }

    pub fn per_second(&self) -> [f64; 3] {
        let (Some((first_at, first)), Some((last_at, last))) =
            (self.samples.front(), self.samples.back())
        else {
            return [0.0; 3];
        };
        let seconds = last_at.duration_since(*first_at).as_secs_f64();
        if seconds <= 0.0 {
            return [0.0; 3];
        }
        let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
        let ([a, b, c], [x, y, z]) = (*first, *last);
        [rate(a, x), rate(b, y), rate(c, z)]
    }
}

/// Where things are, fixed for a run.
#[derive(Debug, Clone)]
pub struct Places {
    pub bootstrap: String,
    pub embedded_broker: bool,
    pub elasticsearch: String,
    pub embedded_store: bool,
    pub processing_delay: String,
    pub rate: f64,
    pub seed: u64,
    pub log_path: PathBuf,
}

/// Everything that changes, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub elapsed: Duration,
    pub sent: u64,
    pub failed: u64,
    pub counts: Counts,
    pub per_second: [f64; 3],
    /// Where `weir up` answers for all pipelines.
    pub http: Option<String>,
    pub pipelines: BTreeMap<String, PipelineLog>,
    pub readiness: BTreeMap<String, Readiness>,
    pub windows_closed: usize,
    pub store_trouble: Option<String>,
}

/// What is said once, before anything runs.
pub fn opening(places: &Places) -> Vec<String> {
    let mut lines = vec![
        "Weir: the SLA monitor on real pipelines".to_owned(),
        format!(
            "  broker          {}{}",
            places.bootstrap,
            if places.embedded_broker {
                "  (embedded)"
            } else {
                ""
            }
        ),
        format!(
            "  document store  {}{}",
            places.elasticsearch,
            if places.embedded_store {
                "  (embedded)"
            } else {
                ""
            }
        ),
        format!(
            "  visits          {} per second, seed {}, processing delay {}",
            rate(places.rate),
            places.seed,
            places.processing_delay
        ),
        format!("  log             {}", places.log_path.display()),
    ];
    if places.embedded_broker {
        lines.extend(
            [
                "The embedded broker is librdkafka's mock cluster. It speaks the real protocol, but:",
                "  it takes transactions without effect, so the pipelines run at least once here;",
                "  it ignores LogAppendTime, so a latency ends at the producer's clock, not at the broker's;",
                "  it keeps 5 MiB a partition and nothing over a restart; it has no admin API, so the demo made the topics.",
                "A real broker: make demo KAFKA_BOOTSTRAP=host:9092 ELASTICSEARCH_URL=http://host:9200",
            ]
            .map(str::to_owned),
        );
    }
    lines.push(
        "A line appears for each one-minute window, some seconds after its end. Ctrl-C drains and ends."
            .to_owned(),
    );
    lines
}

/// One closed window: `13:37  count 11,934  p50 2.0 ms ...`.
pub fn window_line(window: &Window, arrival: Arrival, color: bool) -> String {
    let mut line = format!(
        "window {}Z  count {:>7}",
        window.start.strftime("%H:%M:%S"),
        grouped(window.count)
    );
    for (name, value) in &window.percentiles {
        line.push_str(&format!("  {name} {:>9}", milliseconds(*value)));
    }
    if window.misses_sla() {
        let miss = format!("SLA MISS (p90 above {})", milliseconds(SLA_P90_MS));
        line.push_str("  ");
        line.push_str(&painted(&miss, "1;31", color));
    }
    if arrival == Arrival::Corrected {
        line.push_str("  corrected: late records came");
    }
    line
}

/// The block that a terminal shows below the windows and renews.
pub fn status_block(places: &Places, snapshot: &Snapshot, width: usize) -> Vec<String> {
    let [sent, reduced, dead] = snapshot.per_second.map(rate);
    let mut lines = vec![
        "─".repeat(width.min(100)),
        format!(
            "{}  visits {sent:>6}/s  reduced {reduced:>6}/s  dead letters {dead:>5}/s  windows closed {}",
            clock(snapshot.elapsed),
            snapshot.windows_closed
        ),
        format!(
            "totals   sent {}  reduced {}  dead letters {}",
            grouped(snapshot.sent),
            grouped(snapshot.counts.reduced),
            grouped(snapshot.counts.dead_letters)
        ),
        format!("reasons  {}", reasons(&snapshot.counts)),
    ];
    lines.extend(pipeline_lines(snapshot));
    lines.extend(
        troubles(snapshot)
            .into_iter()
            .map(|trouble| format!("trouble  {trouble}")),
    );
    lines.extend(look_next(places, snapshot));
    lines
        .into_iter()
        .map(|line| line.chars().take(width).collect())
        .collect()
}

/// The same in one line, for logs.
pub fn status_line(snapshot: &Snapshot) -> String {
    let [sent, reduced, dead] = snapshot.per_second.map(rate);
    let pipelines: Vec<String> = states(snapshot)
        .into_iter()
        .map(|(name, state)| format!("{name} {state}"))
        .collect();
    let mut line = format!(
        "{}  sent {} ({sent}/s)  reduced {} ({reduced}/s)  dead letters {} ({dead}/s): {}  |  {}",
        clock(snapshot.elapsed),
        snapshot.sent,
        snapshot.counts.reduced,
        snapshot.counts.dead_letters,
        reasons(&snapshot.counts),
        pipelines.join(", "),
    );
    for trouble in troubles(snapshot) {
        line.push_str(&format!("  |  {trouble}"));
    }
    line
}

/// URLs and commands that lead on from here.
pub fn look_next(places: &Places, snapshot: &Snapshot) -> Vec<String> {
    let mut lines = vec![format!(
        "look at  {}/{}/_search?q=*&sort=@timestamp:desc",
        places.elasticsearch.trim_end_matches('/'),
        crate::windows::INDEX
    )];
    if let Some(http) = &snapshot.http {
        lines.push(format!(
            "         http://{http}/metrics and http://{http}/readyz"
        ));
    }
    if places.processing_delay == "0s" {
        lines.push("         make demo DELAY=10s  provokes the SLA miss".to_owned());
    }
    lines
}

fn pipeline_lines(snapshot: &Snapshot) -> Vec<String> {
    states(snapshot)
        .into_iter()
        .enumerate()
        .map(|(position, (name, state))| {
            let label = if position == 0 {
                "hosts    "
            } else {
                "         "
            };
            format!("{label}{name}: {state}")
        })
        .collect()
}

/// Each pipeline and how it is.
fn states(snapshot: &Snapshot) -> Vec<(String, String)> {
    if snapshot.pipelines.is_empty() {
        return vec![("hosts".to_owned(), "starting".to_owned())];
    }
    let state = |name: &String, pipeline: &PipelineLog| {
        let role = pipeline.role.as_deref().unwrap_or("active");
        let mut state = match snapshot.readiness.get(name) {
            None | Some(Readiness::Starting) => "starting".to_owned(),
            Some(Readiness::Ready) => format!("ready, {role}"),
            Some(Readiness::NotReady { reason }) if reason.is_empty() => "not ready".to_owned(),
            Some(Readiness::NotReady { reason }) => format!("not ready: {reason}"),
            Some(Readiness::Silent) => "does not answer".to_owned(),
        };
        if pipeline.starts > 1 {
            state.push_str(&format!(", restarted {} times", pipeline.starts - 1));
        }
        state
    };
    snapshot
        .pipelines
        .iter()
        .map(|(name, pipeline)| (name.clone(), state(name, pipeline)))
        .collect()
}

fn troubles(snapshot: &Snapshot) -> Vec<String> {
    let failed = (snapshot.failed > 0)
        .then(|| format!("{} visits could not be sent", grouped(snapshot.failed)));
    let kafka = snapshot
        .counts
        .trouble
        .as_ref()
        .map(|trouble| format!("Kafka: {trouble}"));
    [failed, kafka, snapshot.store_trouble.clone()]
        .into_iter()
        .flatten()
        .collect()
}

/// The most frequent reasons with their counts.
fn reasons(counts: &Counts) -> String {
    let mut reasons: Vec<(&String, &u64)> = counts.reasons.iter().collect();
    reasons.sort_by(|left, right| right.1.cmp(left.1));
    let shown: Vec<String> = reasons
        .iter()
        .take(REASONS_SHOWN)
        .map(|(reason, count)| format!("{reason} {}", grouped(**count)))
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join("  ")
    }
}

fn painted(text: &str, code: &str, color: bool) -> String {
    if color {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn milliseconds(value: f64) -> String {
    if value.abs() < 1_000.0 {
        format!("{value:.1} ms")
    } else {
        let whole = value.abs().round() as u64;
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{} ms", grouped(whole))
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        slow if slow < 10.0 => format!("{slow:.2}"),
        fast => format!("{fast:.0}"),
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// 12345 as `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
