//! Prints what the percentile state costs and how far its estimates are off: `cargo run --release --example percentiles`.
//! `tests/golden/time.py` prints what a Python list and numpy cost for the same task on the same machine.

use std::hint::black_box;
use std::time::Instant;

use weir_latency_window::percentiles::{Distribution, Sample};

const ASKED: [f64; 4] = [50.0, 75.0, 90.0, 99.0];
const COUNT: usize = 1_000_000;
const SEED: u64 = 1;

type Draw = fn(&mut fastrand::Rng, f64) -> f64;

/// The second argument is how far the window has come, 0 to 1.
const SHAPES: [(&str, Draw); 8] = [
    ("constant", |_, _| 12.0),
    (
        "bimodal and jitter",
        |r, _| if r.bool() { 10.0 } else { 10_000.0 } + f64::from(r.u8(0..77)),
    ),
    ("lognormal ms", |r, _| {
        normal(r).mul_add(1.0, 4.0).exp().floor()
    }),
    ("pareto ms", |r, _| {
        (10.0 / (1.0 - r.f64()).powf(1.0 / 1.1)).floor()
    }),
    ("99 % plateau and ramp", |r, _| {
        if r.f64() < 0.99 {
            10.0
        } else {
            (60_000.0 * r.f64()).floor()
        }
    }),
    ("60 % plateau and microseconds", |r, _| {
        if r.f64() < 0.6 {
            10.0
        } else {
            (60e6 * r.f64()).floor() / 1e3
        }
    }),
    ("replay of an hour", |_, at| {
        (3_600_000.0 * (1.0 - at)).floor()
    }),
    ("replay of an hour, shuffled", |r, _| {
        (3_600_000.0 * r.f64()).floor()
    }),
];

fn normal(r: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - r.f64()).ln()).sqrt() * (std::f64::consts::TAU * r.f64()).cos()
}

fn main() {
    println!("{COUNT} values of each shape, seed {SEED}");
    println!(
        "{:31} {:>8} {:>7} {:>10} {:>9} {:>12}  rank errors of {ASKED:?}",
        "shape", "ns/value", "bytes", "encode us", "query us", "merge 64 ms"
    );
    for (name, draw) in SHAPES {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let values: Vec<f64> = (0..COUNT)
            .map(|index| draw(&mut rng, index as f64 / COUNT as f64))
            .collect();
        print_costs(name, &values);
    }
}

fn print_costs(name: &str, values: &[f64]) {
    let (insert_ns, state) = best_of(5, || {
        let mut state = Distribution::default();
        values
            .iter()
            .copied()
            .filter_map(Sample::new)
            .for_each(|sample| state.add(sample));
        black_box(state.summary(&ASKED));
        state
    });
    let (encode_ns, bytes) = best_of(50, || {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        bytes
    });
    let (query_ns, summary) = best_of(50, || state.summary(&ASKED));
    let mut parts = vec![Distribution::default(); 64];
    for (index, sample) in values.iter().copied().filter_map(Sample::new).enumerate() {
        parts[index % 64].add(sample);
    }
    let (merge_ns, merged) = best_of(5, || Distribution::merged(&parts));

    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let errors = |answers: &[f64]| -> String {
        let errors = ASKED
            .iter()
            .zip(answers)
            .map(|(asked, answer)| rank_error(&sorted, *asked, *answer));
        errors.map(|error| format!("{error:.1e} ")).collect()
    };
    let alone = summary
        .map(|summary| errors(&summary.percentiles))
        .unwrap_or_default();
    let together = merged
        .summary(&ASKED)
        .map(|summary| errors(&summary.percentiles))
        .unwrap_or_default();
    println!(
        "{name:31} {:8.2} {:7} {:10.1} {:9.1} {:12.3}  {}{alone}/ merged {together}",
        insert_ns / values.len() as f64,
        bytes.len(),
        encode_ns / 1e3,
        query_ns / 1e3,
        merge_ns / 1e6,
        if state.is_exact() { "exact " } else { "" },
    );
}

/// Nanoseconds of the quickest round, and the result of the first.
fn best_of<R>(rounds: u32, mut run: impl FnMut() -> R) -> (f64, R) {
    let mut timed = || {
        let start = Instant::now();
        let result = black_box(run());
        (start.elapsed().as_nanos() as f64, result)
    };
    let (first, result) = timed();
    let best = (1..rounds).map(|_| timed().0).fold(first, f64::min);
    (best, result)
}

/// As a share of n - 1: the distance from the position asked for to the nearest that a value within half a millisecond
/// of the answer can hold.
fn rank_error(sorted: &[f64], percentile: f64, answer: f64) -> f64 {
    let last = (sorted.len() - 1) as f64;
    let position = last * (percentile / 100.0);
    let below = sorted.partition_point(|value| *value < answer - 0.5) as f64 - 1.0;
    let above = sorted.partition_point(|value| *value <= answer + 0.5) as f64;
    (below - position).max(position - above).max(0.0) / last
}
