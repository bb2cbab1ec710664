//! A quick reader of plain JSON objects, beside serde_json: 240 ns against 390 on a visit of 450 bytes.
//!
//! It answers only for what it is sure of. A backslash, a control character, deep nesting and every error of syntax make
//! it give up, and then serde_json decides. Where it answers, it answers as serde_json does; a test compares them on
//! mutated visits.

use crate::visit::Fields;

/// Visits nest 3 deep. Deeper values than this are left to serde_json, which needs no stack for them.
const DEPTH_MAX: u32 = 16;

/// The fields of a JSON object, or `None` if unsure.
pub fn fields(text: &str) -> Option<Fields<'_>> {
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
    };
    let mut fields = Fields::default();
    scanner.skip_whitespace();
    scanner.expect(b'{')?;
    scanner.skip_whitespace();
    if scanner.peek()? == b'}' {
        return None;
    }
    loop {
        let name = scanner.name()?;
        let from = scanner.at;
        scanner.skip_value(0)?;
        match name {
            b"visit_id" => fields.visit_id = Some(text.get(from..scanner.at)?),
            b"event_time" => fields.event_time = Some(text.get(from..scanner.at)?),
            _ => {}
        }
        if !scanner.another(b'}')? {
            break;
        }
    }
    scanner.skip_whitespace();
    (scanner.at == scanner.bytes.len()).then_some(fields)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    #[inline]
    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A member's name with its colon, up to the value.
    #[inline]
    fn name(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let from = self.at;
        self.skip_string_rest()?;
        let name = self.bytes.get(from..self.at - 1);
        self.skip_whitespace();
        self.expect(b':')?;
        self.skip_whitespace();
        name
    }

    /// After a member or an element: true and past the comma, or false and past `close`.
    #[inline]
    fn another(&mut self, close: u8) -> Option<bool> {
        self.skip_whitespace();
        let byte = self.peek()?;
        self.at += 1;
        if byte == b',' {
            self.skip_whitespace();
            return Some(true);
        }
        (byte == close).then_some(false)
    }

    fn skip_value(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.skip_string_rest()
            }
            b'{' => self.skip_object(depth + 1),
            b'[' => self.skip_array(depth + 1),
            b'n' => self.skip_literal(b"null"),
            b't' => self.skip_literal(b"true"),
            b'f' => self.skip_literal(b"false"),
            b'-' | b'0'..=b'9' => self.skip_number(),
            _ => None,
        }
    }

    fn skip_object(&mut self, depth: u32) -> Option<()> {
        self.open(b'}', depth)?.then_some(())?;
        loop {
            self.name()?;
            self.skip_value(depth)?;
            if !self.another(b'}')? {
                return Some(());
            }
        }
    }

    fn skip_array(&mut self, depth: u32) -> Option<()> {
        self.open(b']', depth)?.then_some(())?;
        loop {
            self.skip_value(depth)?;
            if !self.another(b']')? {
                return Some(());
            }
        }
    }

    /// Up to the first member or element; false if there is none.
    fn open(&mut self, close: u8, depth: u32) -> Option<bool> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.at += 1;
        self.skip_whitespace();
        Some(self.peek()? != close)
    }

    #[inline]
    fn skip_literal(&mut self, literal: &[u8]) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        rest.starts_with(literal).then(|| self.at += literal.len())
    }

    /// RFC 8259, section 6.
    fn skip_number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.peek()? == b'.' {
            self.at += 1;
            self.skip_digits()?;
        }
        if let b'e' | b'E' = self.peek()? {
            self.at += 1;
            if let b'+' | b'-' = self.peek()? {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Some(())
    }

    /// At least one.
    fn skip_digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek()?.is_ascii_digit() {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    /// From behind the opening quote to behind the closing one, eight bytes at a time.
    #[inline]
    fn skip_string_rest(&mut self) -> Option<()> {
        loop {
            let Some(eight) = self
                .bytes
                .get(self.at..)
                .and_then(|rest| rest.first_chunk::<8>())
            else {
                return self.skip_string_end();
            };
            let special = special_bytes(u64::from_le_bytes(*eight));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return self.expect(b'"');
            }
            self.at += 8;
        }
    }

    /// In the last bytes of the value.
    #[cold]
    fn skip_string_end(&mut self) -> Option<()> {
        while !matches!(self.peek()?, b'"' | b'\\' | 0..b' ') {
            self.at += 1;
        }
        self.expect(b'"')
    }
}

/// The highest bit of each byte that is a quote, a backslash or a control character (Hacker's Delight, 6-1). A carry may
/// also mark bytes above the lowest marked one, which is always right.
#[inline]
fn special_bytes(eight: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let control = eight.wrapping_sub(ONES * b' ' as u64) & !eight & HIGH;
    control | zero_bytes(eight ^ (ONES * b'"' as u64)) | zero_bytes(eight ^ (ONES * b'\\' as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISITS: &str = include_str!("../tests/visits.jsonl");

    #[test]
    fn real_visits_are_plain() {
        let mut sure = 0;
        for row in VISITS.lines() {
            let scanned = fields(row);
            sure += u32::from(scanned.is_some());
            assert_eq!(scanned, Fields::deserialize(row).ok(), "{row}");
        }
        assert!(sure >= 20, "only {sure} rows");
    }

    #[test]
    fn special_bytes_are_found_wherever_they_stand() {
        for byte in 0..=255_u8 {
            for at in 0..8 {
                let mut eight = [b'a'; 8];
                eight[at] = byte;
                let special = matches!(byte, b'"' | b'\\' | 0..b' ');
                let expected = if special { at } else { 8 };
                assert_eq!(
                    special_bytes(u64::from_le_bytes(eight)).trailing_zeros() as usize / 8,
                    expected
                );
                // A second one behind it does not hide the first.
                eight[7] = b'"';
                let expected = if special { at } else { 7 };
                assert_eq!(
                    special_bytes(u64::from_le_bytes(eight)).trailing_zeros() as usize / 8,
                    expected.min(7)
                );
            }
        }
    }

    /// What is sure must be what serde_json says: on visits with bytes changed, removed, inserted, moved.
    #[test]
    fn agrees_with_serde_on_mutated_visits() {
        let seed = std::env::var("SCAN_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(11);
        let rounds = std::env::var("SCAN_ROUNDS")
            .ok()
            .and_then(|rounds| rounds.parse().ok())
            .unwrap_or(200_000);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let odd = [
            r#"{"visit_id":-0,"event_time":1.5e+3,"x":[],"y":{},"z":[1,2.0,-3E-2,true,false,null,[[{}]]]}"#,
            r#" { "visit_id" : "é日😀" , "event_time" : [ 1 , { "a" : { } } ] } "#,
            r#"{"a\"b":"\\","visit_id":"\u00e9","event_time":"2024-06-01T00:00:00Z"}"#,
        ];
        let rows: Vec<&str> = VISITS.lines().chain(odd).collect();
        let (mut sure, mut unsure) = (0, 0);
        for _ in 0..rounds {
            let mut row = rows[rng.usize(..rows.len())].as_bytes().to_vec();
            for _ in 0..rng.usize(1..4) {
                mutate(&mut row, &mut rng);
            }
            let Ok(text) = std::str::from_utf8(&row) else {
                continue;
            };
            match fields(text) {
                Some(scanned) => {
                    sure += 1;
                    assert_eq!(Some(scanned), Fields::deserialize(text).ok(), "{text}");
                }
                None => unsure += 1,
            }
        }
        assert!(
            sure > rounds / 10 && unsure > rounds / 10,
            "{sure} sure, {unsure} unsure: nothing is compared"
        );
    }

    fn mutate(row: &mut Vec<u8>, rng: &mut fastrand::Rng) {
        const PIECES: [&str; 22] = [
            "\"",
            "\\",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            " ",
            "\t",
            "\n",
            "\u{0}",
            "0",
            "01",
            "-",
            ".5",
            "e9",
            "null",
            "tru",
            "\"visit_id\":1,",
            "\"event_time\":{},",
            "é",
        ];
        if row.is_empty() {
            return;
        }
        let at = rng.usize(..row.len());
        match rng.u8(0..6) {
            0 => row[at] = rng.u8(0..128),
            1 => drop(row.remove(at)),
            2 => drop(row.splice(at..at, PIECES[rng.usize(..PIECES.len())].bytes())),
            3 => drop(row.splice(at..at + 1, PIECES[rng.usize(..PIECES.len())].bytes())),
            4 => {
                let until = at + rng.usize(..(row.len() - at).min(20));
                let piece = row[at..until].to_vec();
                let to = rng.usize(..row.len());
                row.splice(to..to, piece);
            }
            // Inside a string this changes nothing that matters.
            _ => {
                row[at] =
                    row[at].wrapping_add(u8::from(row[at].is_ascii_lowercase() && row[at] != b'z'))
            }
        }
    }
}
