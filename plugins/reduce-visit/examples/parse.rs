//! Prints what reading a visit costs: `cargo run --release --example parse [FILE]`, one visit a line.

use std::hint::black_box;
use std::time::Instant;

use weir_reduce_visit::parse;

const SAMPLE: &str = include_str!("../tests/visits.jsonl");
const ROUNDS: usize = 21;
const PASSES: usize = 200_000;

fn main() -> std::io::Result<()> {
    let text = match std::env::args().nth(1) {
        Some(file) => std::fs::read_to_string(file)?,
        None => SAMPLE.to_owned(),
    };
    let visits: Vec<&str> = text
        .lines()
        .filter(|row| parse(row.as_bytes()).is_ok())
        .collect();
    let bytes: usize = visits.iter().map(|row| row.len()).sum();
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for row in visits.iter().cycle().take(PASSES) {
            let _ = black_box(parse(black_box(row.as_bytes())));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / PASSES as f64);
    }
    println!(
        "{best:.0} ns a visit, best of {ROUNDS} rounds; {} visits of {} bytes",
        visits.len(),
        bytes / visits.len().max(1)
    );
    Ok(())
}
