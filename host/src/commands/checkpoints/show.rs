//! The list of checkpoints, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::checkpoint::{CheckpointImage, NodeCheckpoint, Restorable};

pub fn text(image: &CheckpointImage) -> String {
    let mut text = String::new();
    for (slot, found) in image.slots() {
        // A String takes everything.
        let _ = match found {
            Restorable::Whole(checkpoint) => {
                let watermark = checkpoint.watermark_ms.and_then(time);
                let watermark = watermark.unwrap_or_else(|| "none".to_owned());
                let _ = writeln!(
                    text,
                    "{slot}  generation {}  offset {}  watermark {watermark}",
                    checkpoint.generation, checkpoint.offset
                );
                let mut nodes = checkpoint.nodes.iter();
                nodes.try_for_each(|node| {
                    let (parts, bytes) = size(node);
                    writeln!(
                        text,
                        "    {} ({}, state version {})  {parts} parts  {bytes} bytes",
                        node.node, node.plugin, node.version
                    )
                })
            }
            Restorable::Incomplete(generation) => {
                writeln!(text, "{slot}  generation {generation}  incomplete")
            }
            Restorable::Nothing => Ok(()),
        };
    }
    if text.is_empty() {
        text.push_str("no checkpoints\n");
    }
    text
}

pub fn json(image: &CheckpointImage) -> String {
    let slots = image.slots().map(|(slot, found)| {
        let mut value = json!({
            "source": slot.source, "topic": slot.topic, "partition": slot.partition,
        });
        match found {
            Restorable::Whole(checkpoint) => {
                value["generation"] = json!(checkpoint.generation);
                value["offset"] = json!(checkpoint.offset);
                value["watermark_ms"] = json!(checkpoint.watermark_ms);
                value["pipeline_watermark_ms"] = json!(checkpoint.pipeline_watermark_ms);
                value["nodes"] = checkpoint.nodes.iter().map(node_json).collect();
            }
            Restorable::Incomplete(generation) => {
                value["generation"] = json!(generation);
                value["incomplete"] = json!(true);
            }
            Restorable::Nothing => {}
        }
        value
    });
    format!("{}\n", Value::from_iter(slots))
}

fn node_json(node: &NodeCheckpoint) -> Value {
    let (parts, bytes) = size(node);
    json!({
        "node": node.node, "plugin": node.plugin, "version": node.version, "parts": parts, "bytes": bytes,
    })
}

fn size(node: &NodeCheckpoint) -> (usize, usize) {
    let bytes = node.parts.values().map(|bytes| bytes.len()).sum();
    (node.parts.len(), bytes)
}

fn time(ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(time.to_string())
}
