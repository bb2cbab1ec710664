//! The words that visits are made of, and their JSON with a space after `:` and `,` as the trackers write it.

use std::io;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::ser::Formatter;

pub(super) const REFERRALS: [&str; 8] = [
    "Medium",
    "Google Search",
    "Twitter",
    "LinkedIn",
    "Facebook",
    "StackOverflow",
    "YouTube",
    "Google Ads",
];
pub(super) const ADS: [&str; 5] = ["ad 1", "ad 2", "ad 3", "ad 4", "ad 5"];
pub(super) const BROWSERS: [&str; 3] = ["Safari", "Chrome", "Firefox"];
pub(super) const BROWSER_VERSIONS: [&str; 10] = [
    "20.0", "20.1", "20.2", "21.0", "22.0", "23.0", "23.1", "23.2", "24.11", "25.09",
];
pub(super) const NETWORKS: [&str; 4] = ["Wi-Fi", "LAN", "4G", "5G"];
pub(super) const DEVICES: [&str; 5] = ["iPhone", "iPad", "MacBook", "Smartphone", "PC"];
pub(super) const DEVICE_VERSIONS: [&str; 6] = ["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"];

const MAIN_PAGES: [&str; 6] = ["contact", "index", "main", "home", "about", "categories"];
const FIRST_NAMES: [&str; 16] = [
    "ana", "ben", "carla", "david", "emma", "farid", "grace", "hugo", "ines", "jonas", "kim",
    "lena", "marta", "nils", "olga", "peter",
];
const LAST_NAMES: [&str; 16] = [
    "adams", "berg", "costa", "diaz", "evans", "fischer", "garcia", "hart", "ivanov", "jensen",
    "kowalski", "lopez", "moreau", "novak", "olsen", "petit",
];

/// One of `choices`; empty text of none.
pub(super) fn pick(rng: &mut Rng, choices: &[&'static str]) -> &'static str {
    rng.choice(choices).copied().unwrap_or_default()
}

/// Three of four events are on a main page, the others on one of 20 pages or categories.
pub(super) fn page(rng: &mut Rng) -> String {
    match rng.u32(0..8) {
        0 => format!("page_{}", rng.u32(1..=20)),
        1 => format!("category_{}", rng.u32(1..=20)),
        _ => pick(rng, &MAIN_PAGES).to_owned(),
    }
}

pub(super) fn login(rng: &mut Rng) -> String {
    let first = pick(rng, &FIRST_NAMES);
    match rng.bool() {
        true => format!("{first}{}", pick(rng, &LAST_NAMES)),
        false => format!("{first}{:02}", rng.u32(0..100)),
    }
}

pub(super) fn ip(rng: &mut Rng) -> String {
    let first = rng.u8(1..224);
    format!("{first}.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(1..=254))
}

/// A random UUID of version 4.
pub(super) fn uuid(rng: &mut Rng) -> String {
    let random = rng.u128(..);
    let versioned = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{versioned:032x}");
    let mut text = String::with_capacity(36);
    for (position, digit) in hex.chars().enumerate() {
        if matches!(position, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// `2024-06-01T00:00:00+00:00`.
pub(super) fn rfc3339_seconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// Midnight of one of the last 30 days.
pub(super) fn days_before(rng: &mut Rng, now: Timestamp) -> String {
    let days = SignedDuration::from_hours(24 * rng.i64(1..=30));
    let day = now.checked_sub(days).unwrap_or(now);
    day.strftime("%Y-%m-%dT00:00:00+00:00").to_string()
}

pub(super) fn json(value: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    // Writing to memory does not fail, and a visit has no key that is no text.
    let written = value.serialize(&mut serializer).is_ok();
    match String::from_utf8(bytes) {
        Ok(text) if written => text,
        _ => String::new(),
    }
}

/// One line with a space after each `:` and `,`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }
}
