//! Visits as a web shop's tracker sends them, good and bad, from a seed.
//!
//! The shares were counted in 5,000 real rows: 1.0 % of the rows are cut off (`{........`), 2.0 % come from visits that
//! lose their fields one after the other until nothing but nulls is left, 0.6 % are sent twice. Some 500 visits are open
//! at a time and report a page in turn; a visit that is broken stays broken.

mod text;

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

/// Visits that are open at once in the real rows.
pub const OPEN_VISITS: usize = 500;

/// What a row looks like that was cut off on its way.
const CUT_OFF: &str = "{........";
const CUT_OFF_SHARE: f64 = 0.010;
const FADING_SHARE: f64 = 0.020;
const SENT_TWICE_SHARE: f64 = 0.006;
/// Chance of each field of a fading visit to be lost, at each event: after two events 4 of 10 visits had a field left.
const FIELD_LOSS_SHARE: f64 = 0.70;
/// The page of a fading visit is set anew at each event and is missing in 57 of 100.
const PAGE_LOSS_SHARE: f64 = 0.57;
/// Pages that a visit sees before it ends: the real rows stop at 10 to 13 events with every visit still open.
const EVENTS: std::ops::RangeInclusive<u32> = 5..=25;

/// One row for the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The visit's id, so that one visit's events keep their order; none where the row has no id.
    pub key: Option<String>,
    pub value: String,
}

#[derive(Debug, Clone, Serialize)]
struct Visit {
    visit_id: Option<String>,
    event_time: Option<String>,
    user_id: Option<String>,
    keep_private: Option<bool>,
    page: Option<String>,
    context: Option<Context>,
}

#[derive(Debug, Clone, Serialize)]
struct Context {
    referral: Option<&'static str>,
    ad_id: Option<&'static str>,
    user: User,
    technical: Technical,
}

#[derive(Debug, Clone, Serialize)]
struct User {
    ip: String,
    login: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    connected_since: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Technical {
    browser: &'static str,
    browser_version: &'static str,
    network_type: &'static str,
    device_type: &'static str,
    device_version: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Sound,
    Fading,
    CutOff,
}

struct OpenVisit {
    visit: Visit,
    condition: Condition,
    event_time_lost: bool,
    events_left: u32,
}

/// An endless stream of rows; the same seed, clock and number of open visits give the same rows.
pub struct Visits {
    rng: fastrand::Rng,
    /// Every id of one run carries the run's number.
    run: u64,
    /// In the order of their turns.
    open: VecDeque<OpenVisit>,
    open_max: usize,
    opened: u64,
    again: Option<Row>,
}

impl Visits {
    /// `open_max` visits take turns; at least one.
    pub fn new(seed: u64, open_max: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let run = rng.u64(139_000_000_000_000..140_000_000_000_000);
        Self {
            rng,
            run,
            open: VecDeque::new(),
            open_max: open_max.max(1),
            opened: 0,
            again: None,
        }
    }

    /// The next row; what happens in it happens at `now`.
    pub fn next_row(&mut self, now: Timestamp) -> Row {
        if let Some(row) = self.again.take() {
            return row;
        }
        let mut visit = self.take_turn(now);
        let row = self.event(&mut visit, now);
        if visit.events_left > 0 {
            self.open.push_back(visit);
        }
        if self.rng.f64() < SENT_TWICE_SHARE {
            self.again = Some(row.clone());
        }
        row
    }

    /// The visit whose turn it is, taken out of the open ones: the oldest, or a new one while there is room.
    fn take_turn(&mut self, now: Timestamp) -> OpenVisit {
        if self.open.len() < self.open_max {
            return self.open_visit(now);
        }
        match self.open.pop_front() {
            Some(visit) => visit,
            None => self.open_visit(now),
        }
    }

    fn event(&mut self, open: &mut OpenVisit, now: Timestamp) -> Row {
        open.events_left = open.events_left.saturating_sub(1);
        open.visit.page = Some(text::page(&mut self.rng));
        open.visit.event_time = Some(text::rfc3339_seconds(now));
        match open.condition {
            Condition::Sound => {}
            Condition::Fading => self.fade(open),
            Condition::CutOff => {
                return Row {
                    key: None,
                    value: CUT_OFF.to_owned(),
                };
            }
        }
        Row {
            key: open.visit.visit_id.clone(),
            value: text::json(&open.visit),
        }
    }

    fn fade(&mut self, open: &mut OpenVisit) {
        let mut loses = |share: f64| self.rng.f64() < share;
        let visit = &mut open.visit;
        if loses(FIELD_LOSS_SHARE) {
            visit.visit_id = None;
        }
        if loses(FIELD_LOSS_SHARE) {
            open.event_time_lost = true;
        }
        if loses(FIELD_LOSS_SHARE) {
            visit.user_id = None;
        }
        if loses(FIELD_LOSS_SHARE) {
            visit.keep_private = None;
        }
        if loses(FIELD_LOSS_SHARE) {
            visit.context = None;
        }
        if loses(PAGE_LOSS_SHARE) {
            visit.page = None;
        }
        if open.event_time_lost {
            visit.event_time = None;
        }
    }

    fn open_visit(&mut self, now: Timestamp) -> OpenVisit {
        let number = self.opened;
        self.opened += 1;
        let chance = self.rng.f64();
        let condition = if chance < CUT_OFF_SHARE {
            Condition::CutOff
        } else if chance < CUT_OFF_SHARE + FADING_SHARE {
            Condition::Fading
        } else {
            Condition::Sound
        };
        let rng = &mut self.rng;
        let visit = Visit {
            visit_id: Some(format!("{}{}_{number}", rng.u32(100..400_000), self.run)),
            event_time: None,
            user_id: Some(format!("{}_{}", self.run, text::uuid(rng))),
            keep_private: Some(rng.f64() < 0.13),
            page: None,
            context: Some(context(rng, now)),
        };
        OpenVisit {
            visit,
            condition,
            event_time_lost: false,
            events_left: rng.u32(EVENTS),
        }
    }
}

fn context(rng: &mut fastrand::Rng, now: Timestamp) -> Context {
    Context {
        referral: some(rng, 0.88).then(|| text::pick(rng, &text::REFERRALS)),
        ad_id: some(rng, 0.64).then(|| text::pick(rng, &text::ADS)),
        user: User {
            ip: text::ip(rng),
            login: text::login(rng),
            connected_since: some(rng, 0.33).then(|| text::days_before(rng, now)),
        },
        technical: Technical {
            browser: text::pick(rng, &text::BROWSERS),
            browser_version: text::pick(rng, &text::BROWSER_VERSIONS),
            network_type: text::pick(rng, &text::NETWORKS),
            device_type: text::pick(rng, &text::DEVICES),
            device_version: text::pick(rng, &text::DEVICE_VERSIONS),
        },
    }
}

fn some(rng: &mut fastrand::Rng, share: f64) -> bool {
    rng.f64() < share
}

#[cfg(test)]
mod tests;
