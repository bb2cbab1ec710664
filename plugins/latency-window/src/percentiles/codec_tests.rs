//! What holds of the bytes: small, exact, and never trusted.

use super::codec::DecodeError;
use super::tests::{ASKED, distribution, encoded, restored, sample, seeded};
use super::*;
use crate::wire::{WireError, put_varint};

/// Bar 6, the exact half.
#[test]
fn snapshots_are_small() {
    let mut rng = seeded(6);
    let bimodal = distribution(
        (0..100_000).map(|_| if rng.bool() { 10.0 } else { 10_000.0 } + f64::from(rng.u32(0..77))),
    );
    assert!(
        encoded(&bimodal).len() <= 1_024,
        "{}",
        encoded(&bimodal).len()
    );
    for span in [2_048, 10_000, 1_000_000, 1_000_000_000] {
        let mut full = Distribution::default();
        while full.counts.len() < DISTINCT_VALUES_MAX {
            full.add(sample(f64::from(rng.i32(0..span) - span / 2)));
        }
        assert!(full.is_exact());
        assert!(
            encoded(&full).len() <= DISTINCT_VALUES_MAX * 6 + 64,
            "{}",
            encoded(&full).len()
        );
    }
    // Fractions at the resolution of today's clock, over ten minutes.
    let mut full = Distribution::default();
    while full.counts.len() < DISTINCT_VALUES_MAX {
        full.add(sample(
            1_732_280_600_000.0 - (1_732_280_000_000.0 + 600_000.0 * rng.f64()),
        ));
    }
    assert!(full.is_exact());
    assert!(
        encoded(&full).len() <= 16 * 1024,
        "{}",
        encoded(&full).len()
    );
}

#[test]
fn values_of_every_kind_come_back() {
    let odd = [
        0.0,
        5e-324,
        -5e-324,
        f64::MIN_POSITIVE,
        0.1,
        -0.1,
        1e300,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_993.0,
        1_732_280_000_123.456,
        0.5,
        -0.25,
        1_048_576.000_000_1,
        253_402_300_799_999.0,
        -253_402_300_799_999.0,
    ];
    for first in odd {
        for second in odd {
            let state = distribution([first, second, first]);
            assert_eq!(restored(&state).counts.sorted(), state.counts.sorted());
        }
    }
    assert_eq!(
        distribution([0.0, -0.0]).counts.len(),
        1,
        "there is one zero"
    );
    let minus_zero = [1, 255, 1, 1, 0, 0];
    assert_eq!(
        Distribution::decode(&minus_zero).err(),
        Some(DecodeError::Value)
    );
}

/// Bar 9: a million wrong byte strings; whatever is accepted answers, and comes back as it is.
#[test]
fn no_bytes_make_decode_panic() {
    let mut rng = seeded(9);
    let mut seeds: Vec<Vec<u8>> = [0, 1, 2, 5, 12]
        .map(|count| {
            encoded(&distribution(
                (0..count).map(|_| f64::from(rng.i32(-50..500))),
            ))
        })
        .to_vec();
    seeds.push(encoded(&distribution((0..6).map(|_| rng.f64() * 1e9))));
    // A digest with few centroids, so that most changes hit something.
    let mut digest = distribution((0..3).map(f64::from));
    digest.digest = fold(
        &[(sample(1.0), 9), (sample(2.5), 1), (sample(4.0), 70_000)],
        &[],
    );
    digest.digest = digest.digest.map(|d| {
        TDigest::new(
            d.centroids()[..6].to_vec(),
            0.0,
            d.centroids()[..6].iter().map(|c| c.weight()).sum(),
            d.max(),
            d.min(),
            CENTROIDS_MAX,
        )
    });
    seeds.push(encoded(&digest));
    assert!(Distribution::decode(seeds.last().expect("just pushed")).is_ok());

    let mut accepted = 0;
    for round in 0..1_000_000_u32 {
        let bytes = if round % 8 == 0 {
            let mut bytes = vec![0; rng.usize(0..40)];
            rng.fill(&mut bytes);
            bytes
        } else {
            mutated(&seeds[rng.usize(..seeds.len())], &mut rng)
        };
        let Ok(state) = Distribution::decode(&bytes) else {
            continue;
        };
        accepted += 1;
        if let Some(summary) = state.summary(&ASKED) {
            assert!(
                summary.percentiles.iter().all(|value| !value.is_nan()),
                "{bytes:?}"
            );
        }
        restored(&state);
    }
    assert!(
        accepted > 10_000,
        "only {accepted} were accepted: the mutations are too wild"
    );
}

fn mutated(seed: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(0..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.usize(..5)],
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn decode_names_what_is_wrong() {
    let cases: [(&[u8], DecodeError); 12] = [
        (&[], WireError::Truncated.into()),
        (&[2, 0, 0, 0], DecodeError::Format(2)),
        (&[1, 21, 0, 0], DecodeError::Value),
        (&[1, 0, 0], WireError::Truncated.into()),
        (&[1, 0, 0, 0, 7], WireError::Trailing(1).into()),
        (&[1, 0, 0x81, 0x10, 0], DecodeError::TooManyValues(2_049)),
        (&[1, 0, 0, 0xF5, 0x03], DecodeError::TooManyCentroids(501)),
        (
            &[
                1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02,
            ],
            WireError::VarintTooLong.into(),
        ),
        (
            &[
                1, 0, 1, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01,
            ],
            DecodeError::Count,
        ),
        (
            &[
                1, 0, 1, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0,
            ],
            DecodeError::Count,
        ),
        (
            &[
                1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0, 0,
            ],
            DecodeError::Value,
        ),
        (
            &[
                1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F, 0,
            ],
            DecodeError::Extremes,
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(Distribution::decode(bytes).err(), Some(error), "{bytes:?}");
    }
}

#[test]
fn decode_takes_no_descending_order() {
    // The second key lies 2^64 - 1 above the first, which is one below it in 64 bits.
    let mut keys = vec![1, 0, 2, 2, 0];
    put_varint(&mut keys, u64::MAX - 1);
    keys.extend([0, 0]);
    assert_eq!(Distribution::decode(&keys).err(), Some(DecodeError::Value));

    let digest = |means: [f64; 2]| {
        let mut bytes = vec![1, 0, 0, 2];
        bytes.extend([0.0_f64, 4.0].map(f64::to_le_bytes).concat());
        for mean in means {
            bytes.extend(mean.to_le_bytes());
            bytes.push(0);
        }
        Distribution::decode(&bytes).map(|state| state.count())
    };
    assert_eq!(digest([1.0, 2.0]), Ok(2));
    for means in [[2.0, 1.0], [-1.0, 2.0], [1.0, 5.0], [1.0, f64::NAN]] {
        assert_eq!(digest(means), Err(DecodeError::Centroid), "{means:?}");
    }
}
