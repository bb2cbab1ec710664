//! The bytes of a [`Distribution`], counts and digest as they are: a restored one goes on with the same answers.
//!
//! ```text
//! format      u8 = 1
//! scale       u8: keys are values * 2^scale as integers; 255: keys are the ordered bits of the doubles
//! keys        varint number of counted values, then for each: key, count - 1 (varint)
//!             first key zigzag varint, later keys varint (distance to the key before) - 1
//! centroids   varint number, 0 = no digest; else min, max (f64, little endian),
//!             then for each: mean (f64, little endian), weight - 1 (varint)
//! ```
//!
//! Distances and counts are stored less one, so that keys strictly ascend and counts are above zero
//! in whatever is read. A whole value takes 2 to 6 bytes, a fractional one on a grid of 2^-12 ms (what a double resolves
//! near today's time) 4 to 9, a centroid about 10.

use tdigest::{Centroid, TDigest};

use super::count_map::CountMap;
use super::{CENTROIDS_MAX, DISTINCT_VALUES_MAX, Distribution, Sample};
use crate::wire::{Reader, WireError, put_varint, unzigzag, zigzag};

const FORMAT: u8 = 1;
/// In place of a scale: keys are bits.
const SCALE_BITS: u8 = 255;
/// Doubles near today's time in milliseconds lie on a grid of 2^-12, their differences on none finer than 2^-13; a finer
/// common grid is rare and gains nothing over bits.
const SCALE_MAX: u8 = 20;
/// Doubles are exact integers up to here; so are counts kept in a digest.
const EXACT_MAX: u64 = 1 << 53;

/// Why bytes are no [`Distribution`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("format {0} is not known, only 1 is")]
    Format(u8),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0} counted values are more than the limit")]
    TooManyValues(u64),
    #[error("{0} centroids are more than the limit")]
    TooManyCentroids(u64),
    #[error("a counted value is out of range")]
    Value,
    #[error("the counts add up to more than 2^53")]
    Count,
    #[error("minimum and maximum are not finite and in order")]
    Extremes,
    #[error("a centroid is not finite, out of order or outside the extremes")]
    Centroid,
}

impl Distribution {
    /// Appends the bytes: at most 16 KiB for whole values, at most 6 a distinct value and 64 more while exact.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let counted = self.counts.sorted();
        let scale = scale_of(&counted);
        out.extend([FORMAT, scale]);
        put_varint(out, counted.len() as u64);
        let mut previous = None;
        for &(sample, count) in &counted {
            let key = key_of(sample, scale);
            match previous.replace(key) {
                None => put_varint(out, zigzag(key)),
                // Keys ascend; as 64 bits their distance fits even where it does not fit an `i64`.
                Some(previous) => put_varint(out, key.wrapping_sub(previous) as u64 - 1),
            }
            put_varint(out, count - 1);
        }
        match &self.digest {
            None => put_varint(out, 0),
            Some(digest) => encode_digest(digest, out),
        }
    }

    /// Reads exactly what `encode` wrote; anything else is an error.
    pub fn decode(bytes: &[u8]) -> Result<Distribution, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            FORMAT => {}
            format => return Err(DecodeError::Format(format)),
        }
        let counts = decode_counts(&mut reader)?;
        let digest = decode_digest(&mut reader, counts.total())?;
        reader.end()?;
        Ok(Distribution { counts, digest })
    }
}

fn encode_digest(digest: &TDigest, out: &mut Vec<u8>) {
    let (Some(min), Some(max)) = (digest.min(), digest.max()) else {
        return put_varint(out, 0);
    };
    put_varint(out, digest.centroids().len() as u64);
    out.extend(min.to_le_bytes());
    out.extend(max.to_le_bytes());
    for centroid in digest.centroids() {
        out.extend(centroid.mean().to_le_bytes());
        put_varint(out, centroid.weight() as u64 - 1);
    }
}

fn decode_counts(reader: &mut Reader<'_>) -> Result<CountMap, DecodeError> {
    let scale = reader.byte()?;
    if scale > SCALE_MAX && scale != SCALE_BITS {
        return Err(DecodeError::Value);
    }
    let len = reader.varint()?;
    if len > DISTINCT_VALUES_MAX as u64 {
        return Err(DecodeError::TooManyValues(len));
    }
    let mut counts = CountMap::default();
    let mut previous = None;
    for _ in 0..len {
        let number = reader.varint()?;
        let key = match previous {
            None => unzigzag(number),
            Some(previous) => ascend(previous, number).ok_or(DecodeError::Value)?,
        };
        previous = Some(key);
        let sample = sample_of(key, scale).ok_or(DecodeError::Value)?;
        let count = reader.varint()?.checked_add(1).ok_or(DecodeError::Count)?;
        if count > EXACT_MAX - counts.total() {
            return Err(DecodeError::Count);
        }
        counts.add(sample, count);
    }
    Ok(counts)
}

/// `counted` samples stand beside the digest.
fn decode_digest(reader: &mut Reader<'_>, counted: u64) -> Result<Option<TDigest>, DecodeError> {
    let len = reader.varint()?;
    if len == 0 {
        return Ok(None);
    }
    if len > CENTROIDS_MAX as u64 {
        return Err(DecodeError::TooManyCentroids(len));
    }
    let (min, max) = (reader.double()?, reader.double()?);
    if !(min.is_finite() && max.is_finite() && min <= max) {
        return Err(DecodeError::Extremes);
    }
    let mut centroids = Vec::with_capacity(len as usize);
    let mut floor = min;
    let mut total = 0;
    for _ in 0..len {
        let mean = reader.double()?;
        if !(floor <= mean && mean <= max) {
            return Err(DecodeError::Centroid);
        }
        floor = mean;
        let weight = reader.varint()?.checked_add(1).ok_or(DecodeError::Count)?;
        if weight > EXACT_MAX - counted - total {
            return Err(DecodeError::Count);
        }
        total += weight;
        centroids.push(Centroid::new(mean, weight as f64));
    }
    Ok(Some(TDigest::new(
        centroids,
        0.0,
        total as f64,
        Some(max),
        Some(min),
        CENTROIDS_MAX,
    )))
}

/// The smallest scale that makes all values integers a double holds exactly.
fn scale_of(counted: &[(Sample, u64)]) -> u8 {
    let mut scale = 0;
    for (sample, _) in counted {
        while scaled(*sample, scale).fract() != 0.0 {
            if scale == SCALE_MAX {
                return SCALE_BITS;
            }
            scale += 1;
        }
    }
    // Values are sorted: the largest magnitude is at an end.
    let ends = [counted.first(), counted.last()].into_iter().flatten();
    let fits = ends
        .map(|(sample, _)| scaled(*sample, scale).abs())
        .all(|magnitude| magnitude <= EXACT_MAX as f64);
    if fits { scale } else { SCALE_BITS }
}

/// Exact: a power of two changes only the exponent.
fn scaled(sample: Sample, scale: u8) -> f64 {
    sample.value() * f64::from(1_u32 << scale)
}

fn key_of(sample: Sample, scale: u8) -> i64 {
    match scale {
        SCALE_BITS => ordered_bits(sample.value().to_bits() as i64),
        scale => scaled(sample, scale) as i64,
    }
}

/// `None` for a key that `key_of` never makes.
fn sample_of(key: i64, scale: u8) -> Option<Sample> {
    if scale != SCALE_BITS {
        let exact = key.unsigned_abs() <= EXACT_MAX;
        return exact.then(|| Sample::new(key as f64 / f64::from(1_u32 << scale)))?;
    }
    let value = f64::from_bits(ordered_bits(key) as u64);
    // Minus zero would come back as another number.
    Sample::new(value).filter(|sample| sample.value().to_bits() == value.to_bits())
}

/// Maps the bits of a double to an integer of the same order, and back (it is its own inverse): the same trick as
/// `f64::total_cmp`.
fn ordered_bits(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// `previous + distance_less_one + 1`, unless that passes the largest key.
fn ascend(previous: i64, distance_less_one: u64) -> Option<i64> {
    let distance = distance_less_one.checked_add(1)?;
    let room = i64::MAX.wrapping_sub(previous) as u64;
    (distance <= room).then(|| previous.wrapping_add(distance as i64))
}
