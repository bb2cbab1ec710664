//! `weir graph`: the topology as a picture, in Mermaid's or Graphviz' language.

use std::collections::BTreeMap;

use crate::topology::{NodeRef, OnError, Pipeline, Policy, SinkKind, Topology};

/// Mermaid: one subgraph per pipeline, topics as cylinders between them.
pub fn mermaid(topology: &Topology) -> String {
    let picture = Picture::of(topology);
    let mut text = String::from("flowchart LR\n");
    for (at, pipeline) in picture.pipelines.iter().enumerate() {
        text += &format!("  subgraph p{at}[\"{}\"]\n", mermaid_text(&pipeline.name));
        for node in &pipeline.nodes {
            text += &format!(
                "    {}[\"{}<br/><small>{}</small>\"]\n",
                node.id,
                mermaid_text(&node.name),
                mermaid_text(&node.detail)
            );
        }
        text += "  end\n";
    }
    for (topic, id) in &picture.topics {
        text += &format!("  {id}[(\"{}\")]\n", mermaid_text(topic));
    }
    for edge in &picture.edges {
        let arrow = if edge.dashed { "-.->" } else { "-->" };
        text += &format!("  {} {arrow} {}\n", edge.from, edge.to);
    }
    text
}

/// Graphviz: one cluster per pipeline, topics as cylinders between them.
pub fn dot(topology: &Topology) -> String {
    let picture = Picture::of(topology);
    let mut text = String::from("digraph weir {\n  rankdir=LR;\n  node [shape=box];\n");
    for (at, pipeline) in picture.pipelines.iter().enumerate() {
        text += &format!(
            "  subgraph cluster_{at} {{\n    label={};\n",
            dot_text(&pipeline.name)
        );
        for node in &pipeline.nodes {
            let label = format!("{}\n{}", node.name, node.detail);
            text += &format!("    {} [label={}];\n", node.id, dot_text(&label));
        }
        text += "  }\n";
    }
    for (topic, id) in &picture.topics {
        text += &format!("  {id} [shape=cylinder, label={}];\n", dot_text(topic));
    }
    for edge in &picture.edges {
        let style = if edge.dashed { " [style=dashed]" } else { "" };
        text += &format!("  {} -> {}{style};\n", edge.from, edge.to);
    }
    text + "}\n"
}

fn mermaid_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn dot_text(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

/// What both languages draw.
#[derive(Default)]
struct Picture {
    pipelines: Vec<Frame>,
    /// Topic to identifier; a topic that two pipelines share joins them.
    topics: BTreeMap<String, String>,
    edges: Vec<Edge>,
}

struct Frame {
    name: String,
    nodes: Vec<Node>,
}

struct Node {
    id: String,
    name: String,
    detail: String,
}

struct Edge {
    from: String,
    to: String,
    /// Dead letters.
    dashed: bool,
}

impl Picture {
    fn of(topology: &Topology) -> Picture {
        let mut picture = Picture::default();
        for (at, pipeline) in topology.pipelines.iter().enumerate() {
            picture.add(at, pipeline);
        }
        picture
    }

    fn add(&mut self, at: usize, pipeline: &Pipeline) {
        let id = |node: NodeRef| match node {
            NodeRef::Source(index) => format!("p{at}_source{index}"),
            NodeRef::Transform(index) => format!("p{at}_transform{index}"),
        };
        let mut nodes = Vec::new();
        for (index, source) in pipeline.sources.iter().enumerate() {
            let own = id(NodeRef::Source(index));
            for topic in &source.topics {
                let topic = self.topic(topic);
                self.edge(topic, own.clone(), false);
            }
            nodes.push(Node {
                id: own,
                name: source.name.clone(),
                detail: format!("kafka, group {}", source.group),
            });
        }
        for (index, transform) in pipeline.transforms.iter().enumerate() {
            let own = id(NodeRef::Transform(index));
            for from in &transform.from {
                self.edge(id(*from), own.clone(), false);
            }
            nodes.push(Node {
                id: own,
                name: transform.name.clone(),
                detail: transform.plugin.clone(),
            });
        }
        for (index, sink) in pipeline.sinks.iter().enumerate() {
            let own = format!("p{at}_sink{index}");
            for from in &sink.from {
                self.edge(id(*from), own.clone(), false);
            }
            let detail = match &sink.kind {
                SinkKind::Plugin { plugin, .. } => plugin.clone(),
                SinkKind::Kafka { topic, .. } => {
                    let topic = self.topic(topic);
                    self.edge(own.clone(), topic, false);
                    "kafka".to_owned()
                }
            };
            nodes.push(Node {
                id: own,
                name: sink.name.clone(),
                detail,
            });
        }
        self.dead_letters(&pipeline.on_error, &nodes);
        self.pipelines.push(Frame {
            name: pipeline.name.clone(),
            nodes,
        });
    }

    /// Dead letters leave the pipeline at its last node, as one dashed line.
    fn dead_letters(&mut self, on_error: &OnError, nodes: &[Node]) {
        if let (Policy::DeadLetter, Some(last)) = (on_error.policy, nodes.last()) {
            let topic = self.topic(&on_error.topic);
            self.edge(last.id.clone(), topic, true);
        }
    }

    fn topic(&mut self, topic: &str) -> String {
        let next = format!("topic{}", self.topics.len());
        self.topics.entry(topic.to_owned()).or_insert(next).clone()
    }

    fn edge(&mut self, from: String, to: String, dashed: bool) {
        self.edges.push(Edge { from, to, dashed });
    }
}
