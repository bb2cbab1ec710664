//! What became of one bulk request as a whole.

use std::time::Duration;

use crate::bulk_answer::{self, Item};
use crate::operation::Operation;

/// A server that asks for more patience than this is asked again after this much.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The classes of outcomes. The texts say what was seen, without secrets.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Every item has a verdict.
    Answered(Vec<Item>),
    /// No byte of the request reached a server.
    NotSent(String),
    /// It may have been carried out, wholly, partly or not.
    Unknown(Doubt, String),
    /// Refused for now; nothing is wrong with any operation. The floor of the pause is the server's `Retry-After`.
    Overload(Option<Duration>, String),
    /// The body is too large for the server.
    TooLarge(String),
    /// The whole request was refused, perhaps for one bad operation.
    BadRequest(String),
    /// Address, rights or product are wrong; no operation is guilty.
    Systemic(String),
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    Timeout,
    /// The connection broke; some servers do this instead of a 413.
    Reset,
    /// 500: perhaps one operation trips the server over.
    ServerFault,
    /// A proxy's 502 or 504, or an answer that cannot be believed.
    BadAnswer,
}

impl Outcome {
    /// What was seen; empty for an answer.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Outcome::Answered(_) => String::new(),
            Outcome::NotSent(reason)
            | Outcome::Unknown(_, reason)
            | Outcome::Overload(_, reason)
            | Outcome::TooLarge(reason)
            | Outcome::BadRequest(reason)
            | Outcome::Systemic(reason) => reason,
        }
    }

    /// Name for the metric of errors; `None` for an answer.
    pub(crate) fn error_class(&self) -> Option<&'static str> {
        match self {
            Outcome::Answered(_) => None,
            Outcome::NotSent(_) => Some("not_sent"),
            Outcome::Unknown(..) => Some("unknown"),
            Outcome::Overload(..) => Some("overload"),
            Outcome::TooLarge(_) => Some("too_large"),
            Outcome::BadRequest(_) => Some("bad_request"),
            Outcome::Systemic(_) => Some("systemic"),
        }
    }
}

/// Classifies a complete HTTP answer. `retry_after` is what [`read_retry_after`] says.
pub(crate) fn classify_answer(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    sent: &[Operation],
) -> Outcome {
    let seen = || {
        let reason = bulk_answer::read_error(body);
        reason.map_or_else(
            || format!("status {status}"),
            |reason| format!("status {status}, {reason}"),
        )
    };
    match status {
        200 => match bulk_answer::read_items(body, sent) {
            Ok(items) => Outcome::Answered(items),
            Err(reason) => Outcome::Unknown(Doubt::BadAnswer, reason),
        },
        400 => Outcome::BadRequest(seen()),
        408 | 429 | 503 => Outcome::Overload(retry_after, seen()),
        413 => Outcome::TooLarge(seen()),
        // 401, 403, 404, 405, 406, 407, 410, 415 and whatever a proxy invents: redirects are not followed with a body.
        300..=499 => Outcome::Systemic(seen()),
        500 => Outcome::Unknown(Doubt::ServerFault, seen()),
        _ => Outcome::Unknown(Doubt::BadAnswer, seen()),
    }
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, section 10.2.3), at most five minutes. A date is measured from
/// the answer's own `Date`, never from a clock of this machine, which may stand wrong or jump.
pub(crate) fn read_retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            let answered_at = httpdate::parse_http_date(date?.trim()).ok()?;
            until.duration_since(answered_at).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16) -> &'static str {
        classify_answer(status, None, b"<html>secret page</html>", &[])
            .error_class()
            .unwrap_or("answered")
    }

    #[test]
    fn every_status_has_a_class() {
        assert_eq!(class(400), "bad_request");
        assert_eq!(class(413), "too_large");
        for status in [408, 429, 503] {
            assert_eq!(class(status), "overload", "{status}");
        }
        for status in [301, 401, 403, 404, 405, 406, 410, 415, 418, 499] {
            assert_eq!(class(status), "systemic", "{status}");
        }
        for status in [100, 199, 204, 500, 501, 502, 504, 599, 999] {
            assert_eq!(class(status), "unknown", "{status}");
        }
    }

    #[test]
    fn case_13_a_proxys_page_is_not_repeated() {
        let Outcome::Unknown(Doubt::BadAnswer, seen) =
            classify_answer(502, None, b"<html>secret page</html>", &[])
        else {
            panic!("unknown");
        };
        assert_eq!(seen, "status 502");
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        assert_eq!(read_retry_after(" 2 ", None), Some(Duration::from_secs(2)));
        assert_eq!(read_retry_after("999999999", None), Some(RETRY_AFTER_MAX));
        assert_eq!(read_retry_after("soon", None), None);
    }

    #[test]
    fn case_59_a_date_to_retry_after_is_measured_by_the_servers_clock() {
        for year in ["1999", "2015", "2099"] {
            let at = |time: &str| {
                let day = time_of(year);
                format!("{day} {time} GMT")
            };
            let wait = |until: &str, now: &str| read_retry_after(&at(until), Some(&at(now)));
            assert_eq!(
                wait("07:28:09", "07:28:00"),
                Some(Duration::from_secs(9)),
                "{year}"
            );
            assert_eq!(wait("07:28:00", "07:28:09"), Some(Duration::ZERO));
            assert_eq!(wait("08:28:00", "07:28:00"), Some(RETRY_AFTER_MAX));
            assert_eq!(read_retry_after(&at("07:28:09"), None), None);
            assert_eq!(read_retry_after(&at("07:28:09"), Some("today")), None);
        }
    }

    /// The twenty-first of October, with its day of the week.
    fn time_of(year: &str) -> String {
        let weekday = match year {
            "1999" => "Thu",
            _ => "Wed",
        };
        format!("{weekday}, 21 Oct {year}")
    }
}
