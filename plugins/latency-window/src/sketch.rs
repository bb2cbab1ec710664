//! What stage one tells stage two of one source partition: the exact state of a window, or how far event time has come.
//!
//! ```text
//! key    <topic>-<partition> of the source: all of a partition stays in one partition, in order
//! value  "WLS" format:u8=1 payload checksum:u64         checksum xxh3 of the payload, little endian
//!        payload: topic (length, bytes), partition, partition count, size_ms, kind; numbers are varints
//!          kind 0, watermark: watermark_ms
//!          kind 1, window:    start_ms / size_ms, then the bytes of the distribution
//! ```
//!
//! A window's version is its count: a partition's window only grows, and equal counts are equal windows.

use xxhash_rust::xxh3::xxh3_64;

use crate::percentiles::{DecodeError, Distribution};
use crate::start_field::UNIX_MS_MAX;
use crate::wire::{Reader, WireError, put_varint};

const MAGIC: &[u8; 3] = b"WLS";
const FORMAT: u8 = 1;
const CHECKSUM_LEN: usize = 8;
/// Kafka's own limit for a topic's name.
const TOPIC_LEN_MAX: u64 = 249;

const KIND_WATERMARK: u8 = 0;
const KIND_WINDOW: u8 = 1;

/// One message between the stages.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub partition: i32,
    /// Partitions of the topic, as far as the sender knew; at least 1.
    pub partition_count: i32,
    pub size_ms: i64,
    pub news: News,
}

#[derive(Clone, Debug)]
pub enum News {
    /// No record of the partition older than this is expected any more, unix milliseconds.
    Watermark(i64),
    /// The partition's part of the window that starts at `start_ms`, whole.
    Window {
        start_ms: i64,
        latencies: Distribution,
    },
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    #[error("it is no sketch: it does not begin with WLS")]
    Magic,
    #[error("its format is {0}, and this plugin reads {FORMAT}")]
    Format(u8),
    #[error("its checksum does not match its bytes")]
    Checksum,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Distribution(#[from] DecodeError),
    #[error("a number in it is out of range")]
    Range,
    #[error("its topic is no text of 1 to {TOPIC_LEN_MAX} bytes")]
    Topic,
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        put_varint(&mut payload, self.topic.len() as u64);
        payload.extend(self.topic.as_bytes());
        // None of these is negative.
        for number in [
            i64::from(self.partition),
            i64::from(self.partition_count),
            self.size_ms,
        ] {
            put_varint(&mut payload, number.unsigned_abs());
        }
        match &self.news {
            News::Watermark(at_ms) => {
                payload.push(KIND_WATERMARK);
                put_varint(&mut payload, at_ms.unsigned_abs());
            }
            News::Window {
                start_ms,
                latencies,
            } => {
                payload.push(KIND_WINDOW);
                put_varint(&mut payload, (start_ms / self.size_ms).unsigned_abs());
                latencies.encode(&mut payload);
            }
        }
        let checksum = xxh3_64(&payload).to_le_bytes();
        [MAGIC, [FORMAT].as_slice(), &payload, &checksum].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Message, SketchError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SketchError::Magic)?;
        let (format, rest) = rest.split_first().ok_or(SketchError::Magic)?;
        if *format != FORMAT {
            return Err(SketchError::Format(*format));
        }
        let (payload, checksum) = rest
            .split_last_chunk::<CHECKSUM_LEN>()
            .ok_or(WireError::Truncated)?;
        if u64::from_le_bytes(*checksum) != xxh3_64(payload) {
            return Err(SketchError::Checksum);
        }
        let mut reader = Reader::new(payload);
        let topic = topic(&mut reader)?;
        let partition = number(&mut reader, i32::MAX.into())?;
        let partition_count = number(&mut reader, i32::MAX.into())?;
        let size_ms = number(&mut reader, UNIX_MS_MAX)?;
        if size_ms == 0 || partition_count <= partition {
            return Err(SketchError::Range);
        }
        let news = match reader.byte()? {
            KIND_WATERMARK => {
                let at_ms = number(&mut reader, i64::MAX)?;
                reader.end()?;
                News::Watermark(at_ms)
            }
            KIND_WINDOW => News::Window {
                start_ms: number(&mut reader, UNIX_MS_MAX / size_ms)? * size_ms,
                latencies: Distribution::decode(reader.rest())?,
            },
            _ => return Err(SketchError::Range),
        };
        Ok(Message {
            topic,
            partition: i32::try_from(partition).map_err(|_| SketchError::Range)?,
            partition_count: i32::try_from(partition_count).map_err(|_| SketchError::Range)?,
            size_ms,
            news,
        })
    }
}

fn topic(reader: &mut Reader<'_>) -> Result<String, SketchError> {
    let len = reader.varint()?;
    if !(1..=TOPIC_LEN_MAX).contains(&len) {
        return Err(SketchError::Topic);
    }
    let bytes = reader.bytes(len)?;
    let text = std::str::from_utf8(bytes).map_err(|_| SketchError::Topic)?;
    Ok(text.to_owned())
}

fn number(reader: &mut Reader<'_>, max: i64) -> Result<i64, SketchError> {
    let number = i64::try_from(reader.varint()?).map_err(|_| SketchError::Range)?;
    match number <= max {
        true => Ok(number),
        false => Err(SketchError::Range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::percentiles::Sample;

    fn message(news: News) -> Message {
        Message {
            topic: "reduced_visits".into(),
            partition: 1,
            partition_count: 2,
            size_ms: 60_000,
            news,
        }
    }

    #[test]
    fn messages_come_back_as_they_were_and_damage_is_seen() {
        let mut latencies = Distribution::default();
        for latency in [5.0, 7.25, 5.0] {
            latencies.add(Sample::new(latency).expect("a number"));
        }
        let window = News::Window {
            start_ms: 180_000,
            latencies,
        };
        println!("seed 4");
        let mut rng = fastrand::Rng::with_seed(4);
        for news in [News::Watermark(7), window] {
            let bytes = message(news).encode();
            let again = Message::decode(&bytes).expect("whole").encode();
            assert_eq!(again, bytes);
            for len in 0..bytes.len() {
                assert!(Message::decode(&bytes[..len]).is_err(), "{len} bytes");
            }
            for _ in 0..10_000 {
                let mut damaged = bytes.clone();
                let at = rng.usize(..bytes.len());
                damaged[at] ^= 1 << rng.u8(0..8);
                assert!(Message::decode(&damaged).is_err(), "byte {at}");
            }
        }
    }
}
