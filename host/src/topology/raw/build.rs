//! From text to tree: the parser's events, with bounds on nesting and alias expansion.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::{Entry, Node, Raw, Span};
use crate::topology::codes::{self, Code};
use crate::topology::diagnostic::Finding;

/// Most values in a file after alias expansion. A node of a pipeline takes about ten, so this is
/// two thousand nodes; the bound ends a "billion laughs" file and keeps every check quick.
pub(super) const NODES_MAX: usize = 20_000;

/// Deepest nesting of values. The deepest known key lies at 7; plugin options add their own.
pub(super) const NESTING_MAX: usize = 64;

/// Builds the tree of the first document; None after a fault that leaves no tree.
pub(super) fn tree(text: &str, findings: &mut Vec<Finding>) -> Option<Node> {
    let offsets = Offsets::new(text);
    let mut builder = Builder {
        findings,
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
    };
    let mut documents = 0;
    for event in
        Parser::new_from_str(text).take_while(|event| !matches!(event, Ok((Event::StreamEnd, _))))
    {
        let (event, span) = match event {
            Ok((event, span)) => (event, offsets.span(&span)),
            Err(error) => {
                let finding = syntax_finding(text, &offsets, &error);
                builder.findings.push(finding);
                return None;
            }
        };
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents == 2 {
                builder.note(
                    codes::YAML_DOCUMENTS,
                    span,
                    "The file holds a second YAML document.",
                    "Keep one topology in a file: remove the `---` line and what follows.",
                );
                break;
            }
        }
        builder.event(event, span).ok()?;
    }
    let empty = || {
        Finding::of_file(
            codes::FILE_EMPTY,
            "The file is empty.",
            "Start with `version: 1` and `pipelines:`; the README explains a topology line by line.",
        )
    };
    match builder.root {
        Some(root) if is_null(&root) => {
            findings.push(empty());
            None
        }
        Some(root) => Some(root),
        None => {
            findings.push(empty());
            None
        }
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.value, Raw::Scalar { text, plain: true } if text.is_empty())
}

/// The tree can be built no further.
struct Stop;

/// A mapping or sequence whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    content: OpenContent,
}

enum OpenContent {
    Sequence(Vec<Node>),
    /// `key` is set while its value is awaited.
    Mapping {
        entries: Vec<Entry>,
        key: Option<Key>,
        /// Entries that a merge key asks for. The key is refused, but taking its entries spares
        /// the user the faults that their absence would cause.
        merged: Vec<Entry>,
    },
}

/// A key whose value is awaited.
enum Key {
    Text(String, Span),
    Merge,
    /// A key that was refused; its value is parsed and dropped.
    Refused,
}

struct Builder<'f> {
    findings: &'f mut Vec<Finding>,
    open: Vec<Open>,
    /// Finished anchored values with their sizes in nodes; the parser numbers anchors from 1.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn note(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.findings.push(Finding {
            code,
            span: Some(span),
            path: String::new(),
            message: message.into(),
            help: help.into(),
        });
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), &span);
                self.count(1, &span)?;
                let plain = style == ScalarStyle::Plain;
                let node = Node {
                    span,
                    value: Raw::Scalar {
                        text: text.into_owned(),
                        plain,
                    },
                };
                self.finish(node, anchor, 1);
            }
            Event::Alias(anchor) => self.alias(anchor, span)?,
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), &span);
                self.enter(span, anchor, OpenContent::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), &span);
                let content = OpenContent::Mapping {
                    entries: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.enter(span, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(span),
            _ => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tagged: bool, span: &Span) {
        if tagged {
            self.note(
                codes::YAML_TAG,
                span.clone(),
                "A tag stands before the value.",
                "Remove the tag: Weir types a value by the field it stands in.",
            );
        }
    }

    fn enter(&mut self, span: Span, anchor: usize, content: OpenContent) -> Result<(), Stop> {
        self.count(1, &span)?;
        if self.open.len() >= NESTING_MAX {
            self.note(
                codes::YAML_TOO_DEEP,
                span,
                format!("Values are nested more than {NESTING_MAX} deep here."),
                "Flatten the value; no key of a topology nests that deep.",
            );
            return Err(Stop);
        }
        self.open.push(Open {
            span,
            anchor,
            content,
        });
        Ok(())
    }

    fn leave(&mut self, end: Span) {
        let Some(Open {
            span,
            anchor,
            content,
        }) = self.open.pop()
        else {
            return;
        };
        let value = match content {
            OpenContent::Sequence(items) => Raw::Sequence(items),
            OpenContent::Mapping {
                mut entries,
                merged,
                ..
            } => {
                for entry in merged {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
                Raw::Mapping(entries)
            }
        };
        let node = Node {
            span: span.start..end.end.max(span.end),
            value,
        };
        let size = size(&node);
        self.finish(node, anchor, size);
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        match self.anchors.get(&anchor) {
            Some((node, size)) => {
                let (node, size) = (node.clone(), *size);
                self.count(size, &span)?;
                self.finish(node, 0, size);
                Ok(())
            }
            None => {
                self.note(
                    codes::YAML_RECURSIVE_ALIAS,
                    span,
                    "The alias stands inside the value it names.",
                    "Write the inner value out.",
                );
                Err(Stop)
            }
        }
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        self.note(
            codes::YAML_TOO_MANY_NODES,
            span.clone(),
            format!("With its aliases expanded the file holds more than {NODES_MAX} values."),
            "Use fewer or smaller aliases, or split the file.",
        );
        Err(Stop)
    }

    /// Hands a finished value to what encloses it.
    fn finish(&mut self, node: Node, anchor: usize, size: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::Sequence(items)) => items.push(node),
            Some(OpenContent::Mapping {
                entries,
                key,
                merged,
            }) => match key.take() {
                Some(Key::Text(key, key_span)) => entries.push(Entry {
                    key,
                    key_span,
                    value: node,
                }),
                Some(Key::Merge) => {
                    if let Raw::Mapping(other) = node.value {
                        merged.extend(other);
                    }
                }
                Some(Key::Refused) => {}
                None => self.key(node),
            },
        }
    }

    /// Takes a key, or notes why it is none.
    fn key(&mut self, node: Node) {
        let Some(OpenContent::Mapping { entries, key, .. }) =
            self.open.last_mut().map(|open| &mut open.content)
        else {
            return;
        };
        let Raw::Scalar { text, plain } = node.value else {
            *key = Some(Key::Refused);
            self.note(
                codes::YAML_KEY_NOT_TEXT,
                node.span,
                "The key is a list or a mapping.",
                "Use plain text as the key, and quote a `{` or `[` that belongs to the text.",
            );
            return;
        };
        let earlier = entries.iter().any(|entry| entry.key == text);
        let merge = plain && text == "<<";
        *key = Some(match (merge, earlier) {
            (true, _) => Key::Merge,
            (false, true) => Key::Refused,
            (false, false) => Key::Text(text.clone(), node.span.clone()),
        });
        if merge {
            self.note(
                codes::YAML_MERGE_KEY,
                node.span,
                "`<<` merges mappings in YAML 1.1 only.",
                "Write the keys out, or give a whole value an anchor (`&x`) and an alias (`*x`).",
            );
        } else if earlier {
            self.note(
                codes::YAML_DUPLICATE_KEY,
                node.span,
                format!("The key `{text}` stands twice in one mapping."),
                "Remove or rename one of the two.",
            );
        }
    }
}

/// Number of values in a tree, itself included.
fn size(node: &Node) -> usize {
    1 + match &node.value {
        Raw::Scalar { .. } => 0,
        Raw::Sequence(items) => items.iter().map(size).sum(),
        // A key counts as a value, as it did when its event came.
        Raw::Mapping(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
    }
}

/// From the parser's character positions to bytes.
struct Offsets {
    /// Byte offset of each character; empty if every character is one byte.
    bytes: Vec<usize>,
    end: usize,
}

impl Offsets {
    fn new(text: &str) -> Offsets {
        let bytes = match text.is_ascii() {
            true => Vec::new(),
            false => text.char_indices().map(|(at, _)| at).collect(),
        };
        Offsets {
            bytes,
            end: text.len(),
        }
    }

    fn byte(&self, character: usize) -> usize {
        match self.bytes.is_empty() {
            true => character.min(self.end),
            false => self.bytes.get(character).copied().unwrap_or(self.end),
        }
    }

    fn span(&self, span: &saphyr_parser::Span) -> Span {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}

/// Explains the parser's complaint; the commonest slips get a cure of their own.
fn syntax_finding(text: &str, offsets: &Offsets, error: &ScanError) -> Finding {
    let at = offsets.byte(error.marker().index());
    let before = text.get(..at).unwrap_or("");
    let after = text.get(at..).unwrap_or("");
    let finding = |code, span: Span, message: String, help: String| Finding {
        code,
        span: Some(span),
        path: String::new(),
        message,
        help,
    };
    if after.starts_with('{') && before.ends_with('$') {
        let end = after.find('}').map_or(at + 1, |close| at + close + 1);
        return finding(
            codes::YAML_UNQUOTED,
            at - 1..end,
            "A `${...}` stands unquoted inside `{ }` or `[ ]`, where its braces are YAML's own."
                .into(),
            "Quote it: `\"${NAME:-default}\"`.".into(),
        );
    }
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text
        .get(line_start..)
        .unwrap_or("")
        .lines()
        .next()
        .unwrap_or("");
    let indent_length = line.len() - line.trim_start().len();
    if let Some(tab) = line
        .get(..indent_length)
        .and_then(|indent| indent.find('\t'))
    {
        return finding(
            codes::YAML_TAB,
            line_start + tab..line_start + tab + 1,
            "A tab indents this line.".into(),
            "Indent with spaces; YAML allows no tabs there.".into(),
        );
    }
    if error.info().contains("recursion limit") {
        return finding(
            codes::YAML_TOO_DEEP,
            at..at + 1,
            format!("Values are nested more than {NESTING_MAX} deep here."),
            "Flatten the value; no key of a topology nests that deep.".into(),
        );
    }
    let (message, help) = syntax_words(error.info(), after);
    finding(
        codes::YAML_SYNTAX,
        at..at + after.chars().next().map_or(0, char::len_utf8),
        message,
        help,
    )
}

/// The parser's complaint and a cure for it.
fn syntax_words(info: &str, after: &str) -> (String, String) {
    let help = if info.contains("mapping values are not allowed") {
        "Put the value on a line of its own, or quote a text that contains `: `."
    } else if info.contains("unknown anchor") {
        "Define the anchor (`&name`) above the place that uses it (`*name`)."
    } else if info.contains("did not find expected key") {
        "Indent the keys of one mapping by the same number of spaces."
    } else if info.contains("flow mapping") || info.contains("flow sequence") {
        "Separate items by `,`, close every bracket, and quote a text that contains `{ } [ ] ,`."
    } else if info.contains("quoted scalar") {
        "Close the quote, and write a quote inside the text as `\\\"` or `''`."
    } else if after.starts_with(['@', '`', '%', '*', '&', '!', '|', '>']) {
        "Quote a text that starts with a character of YAML's own."
    } else {
        "Compare indentation, quotes and brackets with the lines around."
    };
    (
        format!("The YAML parser stopped here: {info}."),
        help.to_owned(),
    )
}
