use std::path::Path;

use super::*;
use crate::topology::codes;

fn parse(text: &str) -> Result<Document, Report> {
    Document::parse(Path::new("t.yaml"), text.to_owned())
}

fn code_of(text: &str) -> String {
    match parse(text) {
        Ok(document) => format!(
            "{:?}",
            document.findings.iter().map(|f| f.code).collect::<Vec<_>>()
        ),
        Err(report) => format!(
            "{:?}",
            report
                .diagnostics
                .iter()
                .map(|d| d.code)
                .collect::<Vec<_>>()
        ),
    }
}

#[test]
fn spans_index_bytes_also_behind_wide_characters() {
    let document = parse("ä: [ü, xyz]\n").expect("parses");
    let Raw::Mapping(entries) = &document.root.value else {
        panic!("{document:?}")
    };
    let Raw::Sequence(items) = &entries[0].value.value else {
        panic!("{document:?}")
    };
    assert_eq!(&document.text[items[1].span.clone()], "xyz");
    assert_eq!(&document.text[entries[0].key_span.clone()], "ä");
}

#[test]
fn aliases_expand_to_their_anchor() {
    let document = parse("a: &x {b: 1}\nc: *x\n").expect("parses");
    let Raw::Mapping(entries) = &document.root.value else {
        panic!("{document:?}")
    };
    assert_eq!(entries[0].value, entries[1].value);
}

#[test]
fn a_billion_laughs_end_at_the_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
    }
    assert_eq!(code_of(&text), format!("[{}]", codes::YAML_TOO_MANY_NODES));
}

#[test]
fn nesting_ends_at_the_bound_in_block_and_flow_style() {
    let mut block = String::new();
    for depth in 0..=build::NESTING_MAX {
        block += &format!("{}a:\n", " ".repeat(depth));
    }
    assert_eq!(code_of(&block), "[yaml.too_deep]");
    assert_eq!(code_of(&"[".repeat(100_000)), "[yaml.too_deep]");
    assert_eq!(code_of(&"- ".repeat(100_000)), "[yaml.too_deep]");
}

#[test]
fn nothing_is_no_document() {
    for text in ["", "  \n\n", "# only a comment\n", "---\n"] {
        assert_eq!(code_of(text), "[file.empty]", "{text:?}");
    }
}
