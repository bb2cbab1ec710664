//! Checkpoints as a file: JSON, with the bytes of state parts in base64.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointImage, NodeCheckpoint, Restorable, SlotCheckpoint, SlotName};

const FORMAT: &str = "weir checkpoints 2";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    pipeline: String,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    source: String,
    topic: String,
    partition: i32,
    generation: u64,
    offset: i64,
    watermark_ms: Option<i64>,
    pipeline_watermark_ms: Option<i64>,
    nodes: Vec<Node>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    node: String,
    plugin: String,
    fingerprint: u64,
    version: u32,
    /// By id, base64.
    parts: BTreeMap<u64, String>,
}

/// Every whole checkpoint.
pub fn write(pipeline: &str, image: &CheckpointImage) -> String {
    let whole = image.slots().filter_map(|(slot, found)| match found {
        Restorable::Whole(checkpoint) => Some(Checkpoint {
            source: slot.source.clone(),
            topic: slot.topic.clone(),
            partition: slot.partition,
            generation: checkpoint.generation,
            offset: checkpoint.offset,
            watermark_ms: checkpoint.watermark_ms,
            pipeline_watermark_ms: checkpoint.pipeline_watermark_ms,
            nodes: checkpoint.nodes.iter().map(node).collect(),
        }),
        Restorable::Incomplete(_) | Restorable::Nothing => None,
    });
    let file = File {
        format: FORMAT.to_owned(),
        pipeline: pipeline.to_owned(),
        checkpoints: whole.collect(),
    };
    // Texts and numbers under text keys: nothing that JSON cannot say.
    serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
}

fn node(node: &NodeCheckpoint) -> Node {
    let parts = node.parts.iter();
    Node {
        node: node.node.clone(),
        plugin: node.plugin.clone(),
        fingerprint: node.fingerprint,
        version: node.version,
        parts: parts
            .map(|(id, bytes)| (*id, BASE64.encode(bytes)))
            .collect(),
    }
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// One sentence on what is wrong with the text.
pub fn read(text: &str, pipeline: &str) -> Result<Vec<(SlotName, SlotCheckpoint)>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.pipeline != pipeline {
        return Err(format!(
            "it is of the pipeline `{}` and not of `{pipeline}`",
            file.pipeline
        ));
    }
    if file.format != FORMAT {
        return Err(format!(
            "its format is `{}` and this version reads `{FORMAT}`",
            file.format
        ));
    }
    let checkpoint = |checkpoint: Checkpoint| {
        let slot = SlotName {
            source: checkpoint.source,
            topic: checkpoint.topic,
            partition: checkpoint.partition,
        };
        let nodes: Result<Vec<NodeCheckpoint>, String> =
            checkpoint.nodes.into_iter().map(read_node).collect();
        let checkpoint = SlotCheckpoint {
            generation: checkpoint.generation,
            offset: checkpoint.offset,
            watermark_ms: checkpoint.watermark_ms,
            pipeline_watermark_ms: checkpoint.pipeline_watermark_ms,
            nodes: nodes?,
        };
        Ok((slot, checkpoint))
    };
    file.checkpoints.into_iter().map(checkpoint).collect()
}

fn read_node(node: Node) -> Result<NodeCheckpoint, String> {
    let part = |(id, text): (u64, String)| {
        let bytes = BASE64.decode(text);
        let bytes = bytes.map_err(|error| format!("part {id} of `{}`: {error}", node.node))?;
        Ok((id, bytes.into()))
    };
    let parts: Result<_, String> = node.parts.into_iter().map(part).collect();
    Ok(NodeCheckpoint {
        node: node.node.clone(),
        plugin: node.plugin,
        fingerprint: node.fingerprint,
        version: node.version,
        parts: parts?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_can_be_imported() {
        let text = r#"{"format":"weir checkpoints 2","pipeline":"p","checkpoints":[{"source":"s","topic":"t","partition":1,
            "generation":4,"offset":9,"watermark_ms":null,"pipeline_watermark_ms":7,"nodes":[{"node":"n","plugin":"p","fingerprint":18446744073709551615,
            "version":1,"parts":{"7":"AAEC"}}]}]}"#;
        let read_back = read(text, "p").expect("legal");
        assert_eq!(read_back.len(), 1);
        assert_eq!(read_back[0].1.pipeline_watermark_ms, Some(7));
        assert_eq!(read_back[0].1.nodes[0].parts[&7].as_ref(), [0, 1, 2]);
        assert!(read(&text.replace("AAEC", "A"), "p").is_err());
        assert!(read(&text.replace("checkpoints 2", "checkpoints 1"), "p").is_err());
        assert!(read(text, "q").is_err(), "another pipeline's");
    }
}
