//! How fast requests go out: exponential back-off with full jitter, one probe at a time while the target fails, and the
//! size of a bulk that the target takes.

use std::time::{Duration, Instant};

/// Source: M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015), "full jitter".
const BACKOFF_BASE: Duration = Duration::from_millis(100);
/// An outage that ends is noticed at most this much later.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// From this attempt on the pause grows no more: 100 ms * 2^9 is above 30 s.
pub(crate) const BACKOFF_STEPS: u32 = 10;

/// Broken connections never bring the size of a bulk below this: a smaller one is hardly why a server breaks one.
const BULK_BYTES_MIN: usize = 64 << 10;
/// Nor a 413 below this, which no server or proxy has as its limit: 1 MiB is the lowest default (nginx). A smaller body
/// that is refused is halved, but says nothing about others.
const REFUSED_BYTES_MIN: usize = 16 << 10;
/// After a 413 the larger size is tried again this many good bulks later: one wasted request in 256.
const GROW_AFTER_REFUSAL: u32 = 256;
/// Broken connections are mostly no matter of size, so the size comes back soon.
const GROW_AFTER_RESETS: u32 = 8;

/// A pause before attempt `attempt` (1 = the first repetition): uniform in 0 to `min(30 s, 100 ms * 2^(attempt-1))`.
pub(crate) fn backoff(attempt: u32, random: &mut fastrand::Rng) -> Duration {
    let ceiling = BACKOFF_BASE
        .saturating_mul(1 << (attempt.clamp(1, BACKOFF_STEPS) - 1))
        .min(BACKOFF_MAX);
    ceiling.mul_f64(random.f64())
}

/// The state of the target as a whole.
#[derive(Debug)]
pub(crate) struct Pace {
    failures: u32,
    not_before: Option<Instant>,
    /// Class and text of the last failure.
    reason: Option<(&'static str, String)>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Pace {
            failures: 0,
            not_before: None,
            reason: None,
        }
    }

    /// A request got through.
    pub(crate) fn succeeded(&mut self) {
        *self = Pace::new();
    }

    /// A request failed as a whole: all requests pause, at least for `floor`.
    pub(crate) fn failed(
        &mut self,
        class: &'static str,
        reason: String,
        floor: Option<Duration>,
        now: Instant,
        random: &mut fastrand::Rng,
    ) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, random).max(floor.unwrap_or_default());
        let until = now + pause;
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
        self.reason = Some((class, reason));
    }

    /// Why the target makes no progress now, with its class.
    pub(crate) fn reason(&self) -> Option<(&'static str, &str)> {
        let (class, reason) = self.reason.as_ref()?;
        Some((class, reason))
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }
}

/// How many requests may be on their way: halved when the target is overloaded, one more after as many good answers as
/// there may be requests (additive increase, multiplicative decrease).
#[derive(Debug)]
pub(crate) struct Concurrency {
    limit: usize,
    max: usize,
    passed: usize,
    round: u64,
}

impl Concurrency {
    pub(crate) fn new(max: usize) -> Self {
        Concurrency {
            limit: max,
            max,
            passed: 0,
            round: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// What a request that is sent now belongs to.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// A request of this round met an overloaded target. Requests that were sent together count once.
    pub(crate) fn overloaded(&mut self, round: u64) {
        self.passed = 0;
        if round == self.round {
            self.limit = (self.limit / 2).max(1);
            self.round += 1;
        }
    }

    pub(crate) fn passed(&mut self) {
        self.passed += 1;
        if self.passed >= self.limit {
            self.limit = (self.limit + 1).min(self.max);
            self.passed = 0;
        }
    }
}

/// The size of a bulk that the target takes, learned from refusals.
#[derive(Debug)]
pub(crate) struct BulkSize {
    target: usize,
    max: usize,
    good: u32,
    grow_after: u32,
    largest_taken: usize,
}

impl BulkSize {
    pub(crate) fn new(max: usize) -> Self {
        BulkSize {
            target: max,
            max,
            good: 0,
            grow_after: GROW_AFTER_REFUSAL,
            largest_taken: 0,
        }
    }

    /// True if a body of at least this size was answered before: then it is not for its size that one is refused.
    pub(crate) fn was_taken(&self, body_bytes: usize) -> bool {
        body_bytes <= self.largest_taken
    }

    /// Bytes that a bulk should have at most; one operation may be larger.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// A body of this size was refused with 413: half of it, by order of the server, is tried next.
    pub(crate) fn refused(&mut self, body_bytes: usize) {
        if body_bytes <= REFUSED_BYTES_MIN {
            return;
        }
        let floor = REFUSED_BYTES_MIN.min(self.target);
        self.target = (body_bytes / 2).clamp(floor, self.target);
        (self.good, self.grow_after) = (0, GROW_AFTER_REFUSAL);
    }

    /// A body of this size broke its connection repeatedly: perhaps for its size.
    pub(crate) fn reset(&mut self, body_bytes: usize) {
        let floor = BULK_BYTES_MIN.min(self.target);
        self.target = (body_bytes / 2).clamp(floor, self.target);
        (self.good, self.grow_after) = (0, GROW_AFTER_RESETS);
    }

    /// A bulk of this size was answered.
    pub(crate) fn accepted(&mut self, body_bytes: usize) {
        self.largest_taken = self.largest_taken.max(body_bytes);
        if self.target == self.max {
            return;
        }
        self.good += 1;
        if self.good >= self.grow_after {
            self.target = self.target.saturating_mul(2).min(self.max);
            self.good = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 0x5eed;

    #[test]
    fn the_pause_doubles_to_its_ceiling_and_is_spread_evenly() {
        println!("seed {SEED}");
        let mut random = fastrand::Rng::with_seed(SEED);
        for (attempt, ceiling_ms) in [
            (1, 100),
            (2, 200),
            (5, 1_600),
            (9, 25_600),
            (10, 30_000),
            (u32::MAX, 30_000),
        ] {
            let ceiling = Duration::from_millis(ceiling_ms);
            let pauses: Vec<Duration> = (0..1_000).map(|_| backoff(attempt, &mut random)).collect();
            assert!(pauses.iter().all(|pause| *pause <= ceiling), "{attempt}");
            let below_half = pauses.iter().filter(|pause| **pause < ceiling / 2).count();
            assert!((400..600).contains(&below_half), "{attempt}: {below_half}");
        }
    }

    #[test]
    fn case_4_retry_after_is_a_floor() {
        let (mut pace, mut random, now) =
            (Pace::new(), fastrand::Rng::with_seed(SEED), Instant::now());
        pace.failed(
            "overload",
            "busy".into(),
            Some(Duration::from_secs(2)),
            now,
            &mut random,
        );
        assert!(pace.not_before() >= Some(now + Duration::from_secs(2)));
        pace.failed("overload", "busy".into(), None, now, &mut random);
        assert!(
            pace.not_before() >= Some(now + Duration::from_secs(2)),
            "a later failure does not shorten it"
        );
        assert_eq!(
            (pace.is_failing(), pace.reason()),
            (true, Some(("overload", "busy")))
        );
        pace.succeeded();
        assert_eq!(
            (pace.is_failing(), pace.reason(), pace.not_before()),
            (false, None, None)
        );
    }

    #[test]
    fn flights_are_halved_once_for_each_overload_and_come_back_one_by_one() {
        let mut concurrency = Concurrency::new(8);
        let round = concurrency.round();
        for _ in 0..8 {
            concurrency.overloaded(round);
        }
        assert_eq!(concurrency.limit(), 4, "eight requests met one overload");
        concurrency.overloaded(concurrency.round());
        concurrency.overloaded(concurrency.round());
        concurrency.overloaded(concurrency.round());
        assert_eq!(concurrency.limit(), 1);
        let mut answers = 0;
        while concurrency.limit() < 8 {
            concurrency.passed();
            answers += 1;
        }
        assert_eq!(answers, 1 + 2 + 3 + 4 + 5 + 6 + 7);
        concurrency.passed();
        assert_eq!(concurrency.limit(), 8);
    }

    #[test]
    fn case_14_a_refused_size_is_not_tried_again_soon() {
        let mut size = BulkSize::new(10 << 20);
        size.refused(10 << 20);
        size.refused(5 << 20);
        assert_eq!(size.target(), 2_621_440);
        for _ in 1..GROW_AFTER_REFUSAL {
            size.accepted(1);
        }
        assert_eq!(size.target(), 2_621_440);
        size.accepted(1);
        assert_eq!(size.target(), 5 << 20);
    }

    #[test]
    fn a_small_body_that_is_refused_says_nothing_about_others() {
        let mut size = BulkSize::new(1 << 20);
        size.refused(400);
        assert_eq!(size.target(), 1 << 20);
        for _ in 0..20 {
            size.refused(size.target());
        }
        assert_eq!(size.target(), REFUSED_BYTES_MIN);
        let mut tiny = BulkSize::new(1_000);
        tiny.refused(1_000);
        assert_eq!(tiny.target(), 1_000, "`batch.bytes` may be smaller still");
    }

    #[test]
    fn broken_connections_never_shrink_bulks_to_nothing() {
        let mut size = BulkSize::new(1 << 20);
        for _ in 0..20 {
            size.reset(size.target());
        }
        assert_eq!(size.target(), BULK_BYTES_MIN);
        for _ in 0..(GROW_AFTER_RESETS * 4) {
            size.accepted(1);
        }
        assert_eq!(size.target(), 1 << 20);
    }
}
