//! Keeping secrets out of what is printed.

use std::ops::Range;

use super::diagnostic::SecretMark;

/// What stands for a secret in a message.
pub const MASK: &str = "***";

/// Shortest secret that is searched for in free text. Replacing every `e` would ruin the text
/// without hiding anything; Weir's own messages never contain a secret of any length.
const SEARCHED_SECRET_CHARS_MIN: usize = 3;

/// Parts of key names whose value is hidden in snippets even before the key is understood, since
/// a syntax error is printed before the file has a meaning.
const SECRET_WORDS: &[&str] = &[
    "passw",
    "secret",
    "passphrase",
    "api_key",
    "apikey",
    "token",
    "private",
    "key.pem",
];

/// `text` with every secret replaced by [`MASK`].
pub(super) fn text(text: &str, secrets: &[SecretMark]) -> String {
    let mut shown = text.to_owned();
    for secret in searched(secrets) {
        if shown.contains(secret) {
            shown = shown.replace(secret, MASK);
        }
    }
    shown
}

/// The file's text with every secret replaced by as many `*` bytes, so that lines and spans stay.
pub(super) fn source(text: &str, secrets: &[SecretMark]) -> String {
    let mut hidden: Vec<Range<usize>> = probable_secrets(text);
    for secret in secrets {
        if let SecretMark::Place(span) = secret {
            hidden.push(span.clone());
        }
    }
    for secret in searched(secrets) {
        hidden.extend(
            text.match_indices(secret)
                .map(|(at, found)| at..at + found.len()),
        );
    }
    let mut bytes = text.as_bytes().to_vec();
    for span in hidden {
        for byte in bytes.get_mut(span).unwrap_or_default() {
            if !byte.is_ascii_whitespace() {
                *byte = b'*';
            }
        }
    }
    // Whole characters are replaced, so the text stays UTF-8; a span that cut one shows nothing.
    String::from_utf8(bytes).unwrap_or_else(|_| text.chars().map(blank).collect())
}

fn blank(character: char) -> char {
    if character == '\n' { '\n' } else { ' ' }
}

fn searched(secrets: &[SecretMark]) -> impl Iterator<Item = &str> {
    secrets.iter().filter_map(|secret| match secret {
        SecretMark::Text(text) if text.chars().count() >= SEARCHED_SECRET_CHARS_MIN => {
            Some(text.as_str())
        }
        _ => None,
    })
}

/// Values behind keys that are named like secrets, up to the end of the flow value or line, and
/// the lines of a block scalar. A `${...}` is no secret itself.
fn probable_secrets(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut block_indent: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if let Some(outer) = block_indent {
            if line.trim().is_empty() || indent > outer {
                hidden.push(at..at + line.trim_end().len());
                at += line.len();
                continue;
            }
            block_indent = None;
        }
        for value in secret_values(line) {
            if matches!(line.get(value.start..value.start + 1), Some("|" | ">")) {
                block_indent = Some(indent);
            }
            hidden.push(at + value.start..at + value.end);
        }
        at += line.len();
    }
    hidden
}

/// Byte ranges of a line's values whose keys are named like secrets.
fn secret_values(line: &str) -> Vec<Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let mut found = Vec::new();
    for word in SECRET_WORDS {
        for (at, _) in lower.match_indices(word) {
            let after = at + word.len();
            let Some(rest) = line.get(after..) else {
                continue;
            };
            let key_rest = rest
                .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'')))
                .unwrap_or(rest.len());
            let Some(value) = rest.get(key_rest..).and_then(|tail| tail.strip_prefix(':')) else {
                continue;
            };
            let written = value.trim();
            if written.is_empty() || written.trim_start_matches(['"', '\'']).starts_with("${") {
                continue;
            }
            let start = line.len() - value.trim_start().len();
            found.push(start..start + value_length(written));
        }
    }
    found
}

/// Length of a value that may stand in flow style: to the closing quote, else to `,` or `}`.
fn value_length(written: &str) -> usize {
    let quote = written.chars().next().filter(|c| matches!(c, '"' | '\''));
    match quote {
        Some(quote) => written
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == quote)
            .map_or(written.len(), |(at, _)| at + 1),
        None => written.find([',', '}']).unwrap_or(written.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_values_of_keys_named_like_secrets() {
        let shown = source("a: {sasl.password: hunter2, b: c}\nx: y\n", &[]);
        assert_eq!(shown, "a: {sasl.password: *******, b: c}\nx: y\n");
        let shown = source("ssl.key.pem: |\n  AAA\n  BBB\nx: y\n", &[]);
        assert_eq!(shown, "ssl.key.pem: *\n  ***\n  ***\nx: y\n");
        let kept = "password: \"${PW}\"\n";
        assert_eq!(source(kept, &[]), kept);
    }

    #[test]
    fn hides_known_secrets_everywhere() {
        let secrets = [SecretMark::Text("hünter".into()), SecretMark::Place(0..1)];
        assert_eq!(source("a: hünter\n", &secrets), "*: *******\n");
        assert_eq!(
            text("refusing hünter, hünter", &secrets),
            "refusing ***, ***"
        );
    }
}
