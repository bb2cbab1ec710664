//! The bars that this module holds; the program `examples/percentiles.rs` prints the ones about time.

use super::*;

#[derive(serde::Deserialize)]
struct GoldenCase {
    name: String,
    /// Texts, since serde_json does not promise the last bit of a double and `str::parse` does.
    values: Vec<(Box<serde_json::value::RawValue>, u64)>,
    percentiles: Vec<Box<serde_json::value::RawValue>>,
    answers: Vec<String>,
}

pub(super) const ASKED: [f64; 4] = [50.0, 75.0, 90.0, 99.0];

fn number(text: &serde_json::value::RawValue) -> f64 {
    text.get().parse().expect("a number")
}

pub(super) fn sample(value: f64) -> Sample {
    Sample::new(value).expect("finite")
}

pub(super) fn distribution(values: impl IntoIterator<Item = f64>) -> Distribution {
    let mut distribution = Distribution::default();
    for value in values {
        distribution.add(sample(value));
    }
    distribution
}

pub(super) fn encoded(distribution: &Distribution) -> Vec<u8> {
    let mut bytes = Vec::new();
    distribution.encode(&mut bytes);
    bytes
}

pub(super) fn restored(distribution: &Distribution) -> Distribution {
    let bytes = encoded(distribution);
    let restored = Distribution::decode(&bytes).expect("own bytes");
    assert_eq!(encoded(&restored), bytes);
    restored
}

fn bits(summary: &Summary) -> Vec<u64> {
    summary
        .percentiles
        .iter()
        .map(|value| value.to_bits())
        .collect()
}

pub(super) fn seeded(seed: u64) -> fastrand::Rng {
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// Bar 1: the bits of numpy, for any order of arrival, any split over partitions and restores anywhere.
#[test]
fn exact_answers_have_numpys_bits() {
    let mut rng = seeded(1);
    let golden = include_str!("../../tests/golden/percentiles.jsonl");
    let cases: Vec<GoldenCase> = golden
        .lines()
        .map(|line| serde_json::from_str(line).expect("a golden case"))
        .collect();
    assert!(cases.len() >= 1_000);
    for case in &cases {
        let asked: Vec<f64> = case.percentiles.iter().map(|text| number(text)).collect();
        let answers: Vec<u64> = case
            .answers
            .iter()
            .map(|hex| u64::from_str_radix(hex, 16).expect("hexadecimal"))
            .collect();
        let mut values: Vec<f64> = case
            .values
            .iter()
            .flat_map(|(value, times)| std::iter::repeat_n(number(value), *times as usize))
            .collect();
        rng.shuffle(&mut values);

        for partitions in [1, 2, 64] {
            let mut parts = vec![Distribution::default(); partitions];
            let restore_at = rng.usize(..values.len());
            for (index, value) in values.iter().enumerate() {
                parts[rng.usize(..partitions)].add(sample(*value));
                if index == restore_at {
                    parts = parts.iter().map(restored).collect();
                }
            }
            rng.shuffle(&mut parts);
            let summary = Distribution::merged(&parts)
                .summary(&asked)
                .expect("not empty");
            assert_eq!(
                bits(&summary),
                answers,
                "{} in {partitions} partitions",
                case.name
            );
            assert_eq!(summary.count, values.len() as u64, "{}", case.name);
            assert_eq!(
                summary.min,
                values.iter().copied().fold(f64::INFINITY, f64::min),
                "{}",
                case.name
            );
            assert_eq!(
                summary.max,
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                "{}",
                case.name
            );
        }
        let single = distribution(values.iter().copied());
        assert!(single.is_exact());
        assert_eq!(
            bits(&single.summary(&asked).expect("not empty")),
            answers,
            "{} unmerged",
            case.name
        );
    }
}

fn normal(rng: &mut fastrand::Rng) -> f64 {
    // Box and Muller.
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

fn lognormal(rng: &mut fastrand::Rng, mu: f64, sigma: f64) -> f64 {
    (mu + sigma * normal(rng)).exp()
}

fn pareto(rng: &mut fastrand::Rng, scale: f64, alpha: f64) -> f64 {
    scale / (1.0 - rng.f64()).powf(1.0 / alpha)
}

type Draw = Box<dyn FnMut(&mut fastrand::Rng, f64) -> f64>;

/// Shapes that stress the digest; the second argument of a draw is how far the window has come, 0 to 1.
fn shapes() -> Vec<(String, Draw)> {
    let mut shapes: Vec<(String, Draw)> = Vec::new();
    let mut shape = |name: &str, draw: Draw| shapes.push((name.to_owned(), draw));
    shape(
        "lognormal ms, sigma 1",
        Box::new(|r, _| lognormal(r, 4.0, 1.0).floor()),
    );
    shape(
        "lognormal ms, sigma 2",
        Box::new(|r, _| lognormal(r, 5.0, 2.0).floor()),
    );
    shape(
        "lognormal, fractional",
        Box::new(|r, _| lognormal(r, 4.0, 1.0)),
    );
    shape("pareto ms", Box::new(|r, _| pareto(r, 10.0, 1.1).floor()));
    shape(
        "pareto ms, scaled",
        Box::new(|r, _| pareto(r, 100_000.0, 1.5).floor()),
    );
    shape(
        "replay of an hour",
        Box::new(|r, at| 3_600_000.0 * (1.0 - at) + r.f64().floor()),
    );
    shape(
        "replay of an hour, upwards",
        Box::new(|_, at| (3_600_000.0 * at).floor()),
    );
    shape(
        "replay of an hour, shuffled",
        Box::new(|r, _| (3_600_000.0 * r.f64()).floor()),
    );
    shape(
        "clock skew",
        Box::new(|r, _| (50_000.0 * normal(r)).floor()),
    );
    shape(
        "bimodal, wide",
        Box::new(|r, _| if r.bool() { 10.0 } else { 10_000.0 } + (500.0 * normal(r)).floor()),
    );
    shape(
        "bimodal, microseconds",
        Box::new(|r, _| if r.bool() { 10.0 } else { 10_000.0 } + r.f64()),
    );
    shape("uniform, fractional", Box::new(|r, _| r.f64() * 1_000.0));
    for share in [0.5, 0.6, 0.75, 0.9, 0.93, 0.95, 0.99, 0.995] {
        let plateau = move |r: &mut fastrand::Rng, _| {
            if r.f64() < share {
                10.0
            } else {
                11.0 + (60_000.0 * r.f64()).floor()
            }
        };
        shape(&format!("plateau {share} and ramp"), Box::new(plateau));
    }
    shapes
}

/// Distance, as a share of n - 1, between the position asked for and the positions that values within `allowance` of
/// the answer can hold in the sorted data.
fn rank_error(sorted: &[f64], percentile: f64, answer: f64, allowance: f64) -> f64 {
    let last = (sorted.len() - 1) as f64;
    let position = last * (percentile / 100.0);
    let below = sorted.partition_point(|value| *value < answer - allowance) as f64 - 1.0;
    let above = sorted.partition_point(|value| *value <= answer + allowance) as f64;
    (below - position).max(position - above).max(0.0) / last
}

/// Bar 2 for one state.
fn assert_rank_errors(name: &str, sorted: &[f64], summary: &Summary) {
    for ((percentile, answer), limit) in ASKED
        .iter()
        .zip(&summary.percentiles)
        .zip([0.003, 0.002, 0.0015, 0.0005])
    {
        let error = rank_error(sorted, *percentile, *answer, 0.5);
        assert!(
            error <= limit,
            "{name}: p{percentile} = {answer} is off by {error} in rank"
        );
    }
}

/// Bars 2, 6, 7 (no change by a query) and 8.
#[test]
fn estimates_are_near_in_rank_alone_and_merged() {
    let count = 100_000;
    let mut estimated = 0;
    let mut rng = seeded(1);
    for (name, mut draw) in shapes() {
        let values: Vec<f64> = (0..count)
            .map(|index| draw(&mut rng, index as f64 / count as f64))
            .collect();
        let mut single = distribution(values.iter().copied());
        let mut parts = vec![Distribution::default(); 64];
        for (index, value) in values.iter().enumerate() {
            parts[index % 64].add(sample(*value));
        }
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);

        let before = encoded(&single);
        assert_rank_errors(&name, &sorted, &single.summary(&ASKED).expect("not empty"));
        assert_eq!(
            encoded(&single),
            before,
            "{name}: a query changed the state"
        );
        assert!(before.len() <= 16 * 1024, "{name}: {} bytes", before.len());

        let merged = Distribution::merged(&parts);
        assert_eq!(merged.count(), count as u64);
        assert_rank_errors(
            &format!("{name}, merged"),
            &sorted,
            &merged.summary(&ASKED).expect("not empty"),
        );
        rng.shuffle(&mut parts);
        assert_eq!(
            encoded(&Distribution::merged(&parts)),
            encoded(&merged),
            "{name}: the order of parts matters"
        );

        // A restored state goes on as the original does.
        let mut copy = restored(&single);
        for _ in 0..5_000 {
            let next = sample(draw(&mut rng, 1.0));
            single.add(next);
            copy.add(next);
        }
        assert_eq!(
            encoded(&copy),
            encoded(&single),
            "{name}: went on differently after a restore"
        );
        estimated += u32::from(!single.is_exact());
    }
    assert!(estimated >= 15, "only {estimated} states were estimated");
}

/// Bar 3: the guard against the reader of `tdigest` 1.0.1.
#[test]
fn a_plateau_beside_a_gap_stays_flat() {
    for (share, percentiles) in [
        (0.991, &[99.0][..]),
        (0.992, &[99.0]),
        (0.993, &[99.0]),
        (0.995, &[99.0]),
        (0.93, &[75.0, 90.0]),
    ] {
        let count = 100_000;
        let ramp = (count as f64 * (1.0 - share)).round() as usize;
        let spread = 50_000.0 / ramp as f64;
        // Enough distinct values to spill, with fractions where the tail is short.
        let tail = (0..ramp).map(|index| 10_000.0 + index as f64 * spread);
        let warm_up = (0..3_000).map(|index| 9.0 + f64::from(index) / 4_096.0);
        let mut values: Vec<f64> = tail.chain(warm_up).collect();
        values.resize(count + 3_000, 10.0);
        seeded(7).shuffle(&mut values);
        let state = distribution(values);
        assert!(!state.is_exact());
        for answer in state.summary(percentiles).expect("not empty").percentiles {
            assert_eq!(answer, 10.0, "share {share}");
        }
    }
}

/// Bar 4.
#[test]
fn percentiles_never_decrease() {
    let mut rng = seeded(4);
    for round in 0..400 {
        let shapes = &mut shapes();
        let (name, draw) = &mut shapes[round % 20];
        let count = rng.usize(1..20_000);
        let state =
            distribution((0..count).map(|index| draw(&mut rng, index as f64 / count as f64)));
        let asked: Vec<f64> = (0..=200).map(|half| f64::from(half) / 2.0).collect();
        let summary = state.summary(&asked).expect("not empty");
        assert!(summary.percentiles.is_sorted(), "{name} with {count}");
        assert!(
            summary
                .percentiles
                .iter()
                .all(|value| (summary.min..=summary.max).contains(value)),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_number_or_nothing_has_no_answer() {
    assert_eq!(Sample::new(f64::NAN), None);
    assert_eq!(Sample::new(f64::INFINITY), None);
    assert_eq!(Sample::new(f64::NEG_INFINITY), None);
    assert_eq!(Distribution::default().summary(&ASKED), None);
    assert_eq!(Distribution::merged([]).summary(&ASKED), None);
    assert_eq!(Distribution::merged([&Distribution::default()]).count(), 0);
    assert_eq!(restored(&Distribution::default()).count(), 0);
    let extremes = distribution(
        (0..5_000)
            .map(|index| if index % 2 == 0 { f64::MAX } else { f64::MIN } / f64::from(index + 1)),
    );
    assert!(!extremes.is_exact());
    assert!(
        extremes
            .summary(&ASKED)
            .expect("not empty")
            .percentiles
            .iter()
            .all(|value| value.is_finite())
    );
}
