//! What a record's value must be before it may ride in a bulk: one bad body must not refuse its neighbours.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::refusal::{Refusal, code};

/// Checks that `value` is one JSON object in valid UTF-8. Numbers, key order and escapes are not touched: the bytes are
/// sent as they came. Nesting is walked without recursion.
pub(crate) fn check_object(value: &[u8]) -> Result<&str, Refusal> {
    let text = simdutf8::basic::from_utf8(value)
        .map_err(|_| Refusal::new(code::VALUE_NOT_UTF8, "the value is not valid UTF-8"))?;
    if !first_byte_opens_object(value) {
        return Err(not_object(value));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    (&mut json)
        .deserialize_any(ObjectVisitor)
        .and_then(|()| json.end())
        .map_err(|error| invalid_json(&error))?;
    Ok(text)
}

fn first_byte_opens_object(value: &[u8]) -> bool {
    value.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

fn not_object(value: &[u8]) -> Refusal {
    match serde_json::from_slice::<IgnoredAny>(value) {
        Ok(_) => Refusal::new(code::VALUE_NOT_OBJECT, "the value is JSON but no object"),
        Err(error) => invalid_json(&error),
    }
}

/// Position only: the parser's own text may quote the value.
fn invalid_json(error: &serde_json::Error) -> Refusal {
    let (line, column) = (error.line(), error.column());
    Refusal::new(
        code::VALUE_NOT_JSON,
        format!("the value is no valid JSON at line {line} column {column}"),
    )
}

/// Appends the document without a line break. In valid JSON one stands between tokens only, so a space may take its
/// place byte by byte.
pub(crate) fn append_unbroken(body: &mut Vec<u8>, text: &str) {
    let mut from = body.len();
    body.extend_from_slice(text.as_bytes());
    while let Some(found) = body
        .get(from..)
        .and_then(|rest| memchr::memchr2(b'\n', b'\r', rest))
    {
        if let Some(byte) = body.get_mut(from + found) {
            *byte = b' ';
        }
        from += found + 1;
    }
}

/// True if the object has a member of this name. `text` has passed [`check_object`].
pub(crate) fn has_member(text: &str, name: &str) -> bool {
    let mut json = serde_json::Deserializer::from_str(text);
    MemberSeed { name }.deserialize(&mut json).unwrap_or(false)
}

/// The object with one more member in front; `value` is JSON. `text` has passed [`check_object`].
pub(crate) fn with_member(text: &str, name: &str, value: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else {
        return text.to_owned();
    };
    let comma = if rest.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    format!("{before}{{\"{name}\":{value}{comma}{rest}")
}

struct MemberSeed<'n> {
    name: &'n str,
}

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MemberSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            found |= key == self.name;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A JSON pointer (RFC 6901), split into its unescaped tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// `None` if `text` is no pointer or points to the whole document.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let tokens = rest.split('/').map(unescape).collect::<Option<Vec<_>>>()?;
        Some(Pointer {
            text: text.to_owned(),
            tokens,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The string or 64-bit integer (as decimal text) that stands there; `None` if there is none. `text` has passed
    /// [`check_object`].
    pub(crate) fn scalar(&self, text: &str) -> Option<String> {
        let mut json = serde_json::Deserializer::from_str(text);
        PointerSeed {
            tokens: &self.tokens,
        }
        .deserialize(&mut json)
        .ok()
        .flatten()
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut rest = token.chars();
    while let Some(c) = rest.next() {
        let unescaped = match c {
            '~' => match rest.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        };
        out.push(unescaped);
    }
    Some(out)
}

struct PointerSeed<'t> {
    tokens: &'t [String],
}

impl<'de> DeserializeSeed<'de> for PointerSeed<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PointerSeed<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an integer")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.tokens.is_empty().then(|| text.to_owned()))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.tokens.is_empty().then(|| number.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.tokens.is_empty().then(|| number.to_string()))
    }

    /// A fraction, an exponent, or more than 64 bits: two texts could mean one number.
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    /// The first of repeated names counts; Elasticsearch refuses such a document anyway.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.tokens.split_first() else {
            return Err(A::Error::custom("an object is no id"));
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *name {
                let found = map.next_value_seed(PointerSeed { tokens: rest })?;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(found);
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((index, rest)) = self.tokens.split_first() else {
            return Err(A::Error::custom("an array is no id"));
        };
        let Some(index) = array_index(index) else {
            return Err(A::Error::custom("an array has numbered places only"));
        };
        for _ in 0..index {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = seq
            .next_element_seed(PointerSeed { tokens: rest })?
            .flatten();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// RFC 6901: digits without leading zeros.
fn array_index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with('0');
    (plain && token.bytes().all(|byte| byte.is_ascii_digit())).then(|| token.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(value: &[u8]) -> &'static str {
        check_object(value).expect_err("refused").code
    }

    #[test]
    fn case_55_only_one_valid_object_passes_and_passes_untouched() {
        for good in [
            "{}",
            " {\"a\":18446744073709551615} ",
            "{\"a\":1e400}",
            "{\"b\":1,\"a\":\"\\ud800\"}",
            "{\n\"a\":[{}]}",
        ] {
            assert_eq!(check_object(good.as_bytes()).ok(), Some(good));
        }
        assert_eq!(refused(b"\xff{}"), code::VALUE_NOT_UTF8);
        for bad in [
            "",
            "{",
            "{} {}",
            "{\"a\":NaN}",
            "{\"a\":\"x\ny\"}",
            "nonsense",
            "\u{feff}{}",
            "{1:2}",
            "{\"a\":1,}",
        ] {
            assert_eq!(refused(bad.as_bytes()), code::VALUE_NOT_JSON, "{bad}");
        }
        for scalar in ["[]", "12", "\"text\"", "null", "true"] {
            assert_eq!(
                refused(scalar.as_bytes()),
                code::VALUE_NOT_OBJECT,
                "{scalar}"
            );
        }
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_is_refused() {
        let depth = 100_000;
        let text = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_object(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_refusal_does_not_quote_the_value() {
        let refusal = check_object(b"{\"password\":hunter2}").expect_err("refused");
        assert!(!refusal.message.contains("hunter2"), "{}", refusal.message);
    }

    #[test]
    fn a_document_of_many_lines_becomes_one() {
        let mut body = b"x".to_vec();
        append_unbroken(&mut body, "{\r\n \"a\": \"\\n\"\n}");
        assert_eq!(body, b"x{   \"a\": \"\\n\" }");
    }

    #[test]
    fn a_member_is_added_without_touching_the_others() {
        let with = |text| with_member(text, "t", "1");
        assert_eq!(with("{}"), "{\"t\":1}");
        assert_eq!(with(" { } "), " {\"t\":1 } ");
        assert_eq!(with("{\"a\":{}}"), "{\"t\":1,\"a\":{}}");
        assert!(has_member("{\"a\":[1,{\"b\":2}],\"\\u0074\":null}", "t"));
        assert!(!has_member("{\"a\":{\"t\":1}}", "t"));
        assert!(!has_member("{}", "t"));
    }

    #[test]
    fn a_pointer_finds_strings_and_whole_numbers_only() {
        let text = r#"{"a":{"b/c":["x",{"~":7}],"d":-3},"f":1.5,"n":null,"e":1e3,"big":18446744073709551616,"o":{}}"#;
        let at = |pointer: &str| Pointer::parse(pointer).and_then(|pointer| pointer.scalar(text));
        assert_eq!(at("/a/b~1c/0").as_deref(), Some("x"));
        assert_eq!(at("/a/b~1c/1/~0").as_deref(), Some("7"));
        assert_eq!(at("/a/d").as_deref(), Some("-3"));
        for missing in [
            "/f",
            "/n",
            "/e",
            "/big",
            "/o",
            "/a",
            "/zz",
            "/a/b~1c/9",
            "/a/b~1c/00",
            "/a/b~1c/x",
            "/a/d/e",
        ] {
            assert_eq!(at(missing), None, "{missing}");
        }
        assert!(Pointer::parse("a").is_none());
        assert!(Pointer::parse("").is_none());
        assert!(Pointer::parse("/~2").is_none());
    }
}
