//! How the nodes of a pipeline hang together: names, `from`, circles, dead ends, and the order
//! in which transforms run.

use std::collections::{BTreeMap, BTreeSet};

use super::context::{Context, Located};
use super::nodes::Named;
use super::pipeline::PipelineDraft;
use crate::topology::codes;
use crate::topology::model::NodeRef;
use crate::topology::words::{did_you_mean, listed, quoted};

/// A pipeline's transforms in an order in which each stands behind what it reads from.
pub(super) struct Graph {
    /// Indexes into the draft's transforms.
    pub order: Vec<usize>,
    /// Where each source and transform stands in the resolved pipeline.
    pub nodes: BTreeMap<String, NodeRef>,
}

/// Notes names that stand twice among the sources, transforms and sinks.
pub(super) fn check_names(cx: &Context, kinds: &[&[Located]]) {
    let mut seen = BTreeSet::new();
    for node in kinds.iter().copied().flatten() {
        if !seen.insert(node.key.as_str()) {
            let message = format!(
                "Another node of this pipeline is called {} too.",
                quoted(&node.key)
            );
            let help = "Rename one of them; `from` and the metrics tell nodes apart by name.";
            cx.note(codes::DUPLICATE_NAME, &node.key_place(), message, help);
        }
    }
}

/// Notes wrong names in `from`, nodes that nobody reads, and circles. `declared` are the names of
/// all sources, transforms and sinks, those at fault included.
pub(super) fn check_edges(cx: &Context, draft: &PipelineDraft, declared: &[Vec<String>; 3]) {
    let [sources, transforms, sinks] = declared;
    let readable: BTreeSet<&str> = sources
        .iter()
        .chain(transforms)
        .map(String::as_str)
        .collect();
    let readers = draft.transforms.iter().map(|node| (&node.name, &node.from));
    let readers: Vec<(&Named, &Vec<Named>)> = readers
        .chain(draft.sinks.iter().map(|node| (&node.name, &node.from)))
        .collect();
    let mut read = BTreeSet::new();
    // A wrong or missing `from` may be the very one that reads a node which nothing seems to read.
    let mut understood = !sinks.is_empty()
        && draft.transforms.len() == transforms.len()
        && draft.sinks.len() == sinks.len();
    for (reader, from) in &readers {
        understood &= !from.is_empty();
        for name in *from {
            read.insert(name.text.as_str());
            if !readable.contains(name.text.as_str()) {
                understood = false;
                note_unknown(cx, reader, name, &readable, sinks);
            }
        }
    }
    if understood {
        note_dead_ends(cx, draft, &read);
    }
    // Two nodes of one name look like a circle where one reads from the other.
    let names: BTreeSet<&String> = declared.iter().flatten().collect();
    if names.len() == declared.iter().map(Vec::len).sum::<usize>() {
        note_circles(cx, draft);
    }
}

fn note_dead_ends(cx: &Context, draft: &PipelineDraft, read: &BTreeSet<&str>) {
    let sources = draft.sources.iter().map(|node| (&node.name, "source"));
    let transforms = draft
        .transforms
        .iter()
        .map(|node| (&node.name, "transform"));
    for (name, noun) in sources.chain(transforms) {
        if !read.contains(name.text.as_str()) {
            let message = format!("Nothing reads from the {noun} {}.", quoted(&name.text));
            let help =
                format!("Name it in the `from` of a transform or sink, or remove the {noun}.");
            cx.note(codes::DEAD_END, &name.place, message, help);
        }
    }
}

fn note_unknown(
    cx: &Context,
    reader: &Named,
    name: &Named,
    readable: &BTreeSet<&str>,
    sinks: &[String],
) {
    let message = match sinks.contains(&name.text) {
        true => format!(
            "{} is a sink, and nothing can be read from a sink.",
            quoted(&name.text)
        ),
        false => format!(
            "There is no source or transform {} in this pipeline.",
            quoted(&name.text)
        ),
    };
    let others = || {
        readable
            .iter()
            .copied()
            .filter(|other| *other != reader.text)
    };
    let help = did_you_mean(&name.text, others()).unwrap_or_else(|| match others().next() {
        Some(_) => format!("Known here: {}.", listed(others(), "and")),
        None => "Declare a source first.".into(),
    });
    cx.note(codes::UNKNOWN_NODE, &name.place, message, help);
}

/// Notes each circle once, at the `from` of its first transform.
fn note_circles(cx: &Context, draft: &PipelineDraft) {
    let mut left = unordered(draft);
    while let Some(start) = left.iter().next().copied() {
        let walk = walk_back(draft, start, &left);
        for at in &walk {
            left.remove(at);
        }
        let Some(circle) = circle_of(draft, &walk) else {
            continue;
        };
        let names: Vec<String> = circle.iter().map(|at| name_of(draft, *at)).collect();
        let Some((first, place)) = circle.first().and_then(|at| {
            let node = draft.transforms.get(*at)?;
            let edge = node.from.iter().find(|from| names.contains(&from.text))?;
            Some((name_of(draft, *at), &edge.place))
        }) else {
            continue;
        };
        let message = match names.len() {
            1 => format!("The transform `{first}` reads from itself."),
            _ => format!(
                "Transforms read from each other in a circle: {}, {}.",
                names.join(", "),
                first
            ),
        };
        cx.note(
            codes::CYCLE,
            place,
            message,
            "Let one of them read from a source instead.",
        );
    }
}

fn name_of(draft: &PipelineDraft, at: usize) -> String {
    draft
        .transforms
        .get(at)
        .map(|node| node.name.text.clone())
        .unwrap_or_default()
}

/// Follows `from` within `left` until a transform comes again or none is left.
fn walk_back(draft: &PipelineDraft, start: usize, left: &BTreeSet<usize>) -> Vec<usize> {
    let mut walk = vec![start];
    while let Some(next) = walk
        .last()
        .and_then(|at| parents(draft, *at).find(|at| left.contains(at)))
    {
        if walk.contains(&next) {
            break;
        }
        walk.push(next);
    }
    walk
}

/// The circle at the end of a walk, in the order of the data, starting with the transform that
/// stands first in the file.
fn circle_of(draft: &PipelineDraft, walk: &[usize]) -> Option<Vec<usize>> {
    let last = walk.last()?;
    let entry = walk
        .iter()
        .position(|at| parents(draft, *last).any(|parent| parent == *at))?;
    let mut circle: Vec<usize> = walk.get(entry..)?.iter().rev().copied().collect();
    let first = circle
        .iter()
        .enumerate()
        .min_by_key(|(_, at)| **at)
        .map(|(index, _)| index)?;
    circle.rotate_left(first);
    Some(circle)
}

/// The transforms that a transform reads from.
fn parents(draft: &PipelineDraft, at: usize) -> impl Iterator<Item = usize> + '_ {
    let from = draft
        .transforms
        .get(at)
        .map(|node| node.from.as_slice())
        .unwrap_or_default();
    from.iter().filter_map(|name| {
        draft
            .transforms
            .iter()
            .position(|node| node.name.text == name.text)
    })
}

/// Kahn's algorithm, with the order of the file among transforms that are free to run.
fn ordered(draft: &PipelineDraft) -> Vec<usize> {
    let mut order = Vec::new();
    let mut placed = vec![false; draft.transforms.len()];
    loop {
        let ready = |at: &usize| {
            !placed.get(*at).copied().unwrap_or(true)
                && parents(draft, *at).all(|parent| placed.get(parent).copied().unwrap_or(false))
        };
        let Some(next) = (0..draft.transforms.len()).find(ready) else {
            return order;
        };
        if let Some(mark) = placed.get_mut(next) {
            *mark = true;
        }
        order.push(next);
    }
}

/// The transforms that no order can place: those in circles and those behind them.
fn unordered(draft: &PipelineDraft) -> BTreeSet<usize> {
    let order: BTreeSet<usize> = ordered(draft).into_iter().collect();
    (0..draft.transforms.len())
        .filter(|at| !order.contains(at))
        .collect()
}

/// The order of the transforms; None if there is a circle.
pub(super) fn order(draft: &PipelineDraft) -> Option<Graph> {
    let order = ordered(draft);
    if order.len() < draft.transforms.len() {
        return None;
    }
    let sources = draft.sources.iter().enumerate();
    let mut nodes: BTreeMap<String, NodeRef> = sources
        .map(|(at, node)| (node.name.text.clone(), NodeRef::Source(at)))
        .collect();
    for (position, at) in order.iter().enumerate() {
        nodes.insert(name_of(draft, *at), NodeRef::Transform(position));
    }
    Some(Graph { order, nodes })
}
