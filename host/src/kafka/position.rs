//! Where to begin in a partition (I2): the committed offset, checked against what the broker holds; `auto.offset.reset`
//! only where nothing was ever committed.

use crate::topology::OnGap;

/// Where reading begins, and what is lost before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartPosition {
    pub offset: i64,
    /// Records that retention removed before they were read.
    pub lost: u64,
}

/// Why there is no place to begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    #[error(
        "source.gap: {partition} is committed at {committed}, but retention has removed everything below {start}; set `on_gap: skip` on the source to go on from there"
    )]
    Gap {
        partition: String,
        committed: i64,
        start: i64,
    },
    #[error(
        "source.topic_recreated: {partition} is committed at {committed}, but ends at {end}: the topic was recreated or truncated; reset the group's offsets to go on"
    )]
    Recreated {
        partition: String,
        committed: i64,
        end: i64,
    },
    #[error(
        "source.no_position: {partition} has no committed offset and `auto.offset.reset` is `error`; commit an offset or set it to `earliest` or `latest`"
    )]
    None { partition: String },
}

/// `bounds` are the first offset and the end; `reset` is the value of `auto.offset.reset`.
///
/// # Errors
/// A gap under `on_gap: fail`, a recreated topic, or no position where none may be chosen.
pub fn resolve_start(
    partition: &str,
    committed: Option<i64>,
    (start, end): (i64, i64),
    reset: &str,
    on_gap: OnGap,
) -> Result<StartPosition, PositionError> {
    let partition = partition.to_owned();
    let Some(committed) = committed else {
        return match reset {
            "latest" | "end" | "largest" => Ok(StartPosition {
                offset: end,
                lost: 0,
            }),
            "error" | "none" => Err(PositionError::None { partition }),
            _ => Ok(StartPosition {
                offset: start,
                lost: 0,
            }),
        };
    };
    if committed > end {
        return Err(PositionError::Recreated {
            partition,
            committed,
            end,
        });
    }
    if committed >= start {
        return Ok(StartPosition {
            offset: committed,
            lost: 0,
        });
    }
    match on_gap {
        OnGap::Fail => Err(PositionError::Gap {
            partition,
            committed,
            start,
        }),
        OnGap::Skip => Ok(StartPosition {
            offset: start,
            lost: start.abs_diff(committed),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(
        committed: Option<i64>,
        reset: &str,
        on_gap: OnGap,
    ) -> Result<StartPosition, PositionError> {
        resolve_start("t-0", committed, (10, 20), reset, on_gap)
    }

    #[test]
    fn a_committed_offset_inside_the_log_is_where_reading_begins() {
        for committed in [10, 15, 20] {
            let expected = StartPosition {
                offset: committed,
                lost: 0,
            };
            assert_eq!(start(Some(committed), "latest", OnGap::Fail), Ok(expected));
        }
    }

    #[test]
    fn the_reset_applies_only_where_nothing_was_committed() {
        assert_eq!(
            start(None, "earliest", OnGap::Fail),
            Ok(StartPosition {
                offset: 10,
                lost: 0
            })
        );
        assert_eq!(
            start(None, "latest", OnGap::Fail),
            Ok(StartPosition {
                offset: 20,
                lost: 0
            })
        );
        assert_eq!(
            start(None, "error", OnGap::Fail),
            Err(PositionError::None {
                partition: "t-0".into()
            })
        );
    }

    #[test]
    fn what_retention_took_is_an_error_or_counted_never_silent() {
        let gap = PositionError::Gap {
            partition: "t-0".into(),
            committed: 4,
            start: 10,
        };
        assert_eq!(start(Some(4), "earliest", OnGap::Fail), Err(gap));
        assert_eq!(
            start(Some(4), "earliest", OnGap::Skip),
            Ok(StartPosition {
                offset: 10,
                lost: 6
            })
        );
    }

    #[test]
    fn a_position_above_the_end_is_a_recreated_topic_whatever_the_gap_policy() {
        let recreated = PositionError::Recreated {
            partition: "t-0".into(),
            committed: 21,
            end: 20,
        };
        assert_eq!(start(Some(21), "latest", OnGap::Skip), Err(recreated));
    }
}
