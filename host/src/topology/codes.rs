//! The catalogue of diagnostic codes: every code, how severe it is and what it means.
//!
//! A code is stable: scripts may match on it. [`Code`] cannot be built outside this module, so a
//! diagnostic without a row here does not compile.

use std::fmt;

/// How much a diagnostic weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; something in it is probably not what was meant.
    Warning,
}

impl Severity {
    /// The word printed in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A stable dotted code, such as `topology.unknown_key`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static CodeDoc);

/// One row of the catalogue.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeDoc {
    /// The code as it is printed.
    pub code: &'static str,
    /// True if the file is still accepted.
    pub warning: bool,
    /// What it means, in one line.
    pub doc: &'static str,
}

impl Code {
    /// The code as it is printed.
    pub fn as_str(self) -> &'static str {
        self.0.code
    }

    /// Every diagnostic of one code has the same severity.
    pub fn severity(self) -> Severity {
        if self.0.warning {
            Severity::Warning
        } else {
            Severity::Error
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! codes {
    (@warning error) => { false };
    (@warning warning) => { true };
    ($($severity:ident $name:ident = $code:literal: $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub const $name: Code = Code(&CodeDoc {
                code: $code,
                warning: codes!(@warning $severity),
                doc: $doc,
            });
        )*
        /// Every code, in the order of the documentation.
        pub const CODES: &[CodeDoc] = &[$(CodeDoc {
            code: $code,
            warning: codes!(@warning $severity),
            doc: $doc,
        }),*];
    };
}

codes! {
    error FILE_MISSING = "file.missing": "The topology file does not exist.";
    error FILE_DIRECTORY = "file.directory": "The path names a folder.";
    error FILE_UNREADABLE = "file.unreadable": "The operating system refused to read the file.";
    error FILE_TOO_LARGE = "file.too_large": "The file is larger than a topology file may be.";
    error FILE_NOT_UTF8 = "file.not_utf8": "The file is not UTF-8 text.";
    error FILE_EMPTY = "file.empty": "The file holds nothing but white space and comments.";

    error YAML_SYNTAX = "yaml.syntax": "The file is not well-formed YAML.";
    error YAML_TAB = "yaml.tab": "A tab indents a line; YAML indents with spaces only.";
    error YAML_UNQUOTED = "yaml.unquoted_interpolation":
        "An unquoted `${...}` stands inside `{ }` or `[ ]`, where its braces are YAML's own.";
    error YAML_DUPLICATE_KEY = "yaml.duplicate_key": "A mapping holds the same key twice.";
    error YAML_KEY_NOT_TEXT = "yaml.key_not_text": "A key is a list, a mapping or an alias.";
    error YAML_MERGE_KEY = "yaml.merge_key": "A merge key (`<<`) is used; YAML 1.2 has none.";
    error YAML_TAG = "yaml.tag": "A tag such as `!x` or `!!str` is used; Weir types a value by its field.";
    error YAML_RECURSIVE_ALIAS = "yaml.recursive_alias": "An alias stands inside the value it names.";
    error YAML_TOO_MANY_NODES = "yaml.too_many_nodes": "The file, its aliases expanded, holds too many values.";
    error YAML_TOO_DEEP = "yaml.too_deep": "Values are nested too deeply.";
    error YAML_DOCUMENTS = "yaml.multiple_documents": "The file holds more than one YAML document.";

    error UNKNOWN_KEY = "topology.unknown_key": "A key has no meaning where it stands.";
    error MISSING_KEY = "topology.missing_key": "A required key is absent.";
    error NO_VALUE = "topology.no_value": "A key is written without a value.";
    error WRONG_TYPE = "topology.wrong_type": "A value has another shape than its key wants.";
    error BAD_VALUE = "topology.bad_value": "A value is none of the words its key knows.";
    error BAD_DURATION = "topology.bad_duration": "A value is no duration such as `500ms`, `10s`, `1m`, `2h`.";
    error OUT_OF_RANGE = "topology.out_of_range": "A number, duration or text is outside its bounds.";
    error VERSION = "topology.version": "The file's version is none that this host reads.";
    error BAD_NAME = "topology.bad_name": "A pipeline or node has a name that Weir does not allow.";
    error DUPLICATE_NAME = "topology.duplicate_name": "Two nodes of one pipeline share a name.";
    error INTERPOLATION = "topology.interpolation": "A `${...}` is malformed.";
    error UNSET_VARIABLE = "topology.unset_variable": "An environment variable without default is not set.";
    error SECRET_FILE = "topology.secret_file": "The file of a `${file:...}` cannot be read.";
    error HTTP_LISTEN = "topology.http_listen": "The HTTP address is malformed.";
    error BAD_CLOCK = "topology.bad_clock": "The clock of a pipeline test is no time.";
    warning PLUGIN_FOLDER = "topology.plugin_folder": "A plugin folder does not exist.";
    error NO_PIPELINES = "topology.no_pipelines": "The file declares no pipeline.";
    error NO_SOURCES = "topology.no_sources": "A pipeline has no source.";
    error NO_SINKS = "topology.no_sinks": "A pipeline has no sink.";
    error UNKNOWN_NODE = "topology.unknown_node": "`from` names no source or transform of its pipeline.";
    error DUPLICATE_FROM = "topology.duplicate_from": "`from` names the same node twice.";
    error CYCLE = "topology.cycle": "Transforms read from each other in a circle.";
    error DEAD_END = "topology.dead_end": "Nothing reads from a source or a transform.";
    error TOPIC_NAME = "topology.topic_name": "Kafka does not allow the topic's name.";
    error DUPLICATE_TOPIC = "topology.duplicate_topic": "A source names a topic twice.";
    error EMPTY_LIST = "topology.empty_list": "A list that needs an item has none.";
    error TOPIC_LOOP = "topology.topic_loop": "A sink writes the topic that its own pipeline reads.";
    error DEAD_LETTER_TOPIC = "topology.dead_letter_topic":
        "The dead letter topic is also a source or sink topic of its pipeline.";
    error SHARED_GROUP = "topology.shared_group": "Two sources read one topic in one consumer group.";
    error PIPELINE_SCOPE_TASKS = "topology.pipeline_scope_tasks":
        "A pipeline with a pipeline-scoped plugin asks for more than one task.";
    error STATEFUL_CHAIN = "topology.stateful_chain":
        "A transform that keeps state reads, perhaps through others, from another that does.";
    error EXACTLY_ONCE_SINK = "topology.exactly_once_sink":
        "`delivery: exactly_once` is asked for and a sink's replay makes duplicates.";
    warning DELIVERY_DOWNGRADED = "topology.delivery_downgraded":
        "The default exactly once becomes at least once, because a sink's replay makes duplicates.";
    warning UNUSED_SETTING = "topology.unused_setting": "A setting has no effect beside another one.";

    error KAFKA_UNKNOWN = "kafka.unknown_property": "librdkafka knows no property of this name.";
    error KAFKA_WRONG_SIDE = "kafka.wrong_side":
        "A `consumer:` block holds a producer's property, or a `producer:` block a consumer's.";
    error KAFKA_OWNED = "kafka.owned_property": "The host itself sets this property.";
    error KAFKA_VALUE = "kafka.bad_value": "librdkafka does not allow the value for this property.";
    error KAFKA_CONFLICT = "kafka.conflict": "Two properties contradict each other.";
    error KAFKA_EXACTLY_ONCE = "kafka.exactly_once":
        "Exactly once writes with one producer to one cluster; a property asks for something else.";
    error KAFKA_BOOTSTRAP = "kafka.bootstrap_missing": "A source or sink knows no `bootstrap.servers`.";

    error PLUGIN_MISSING = "plugin.missing": "No plugin folder offers a plugin of this name.";
    error PLUGIN_REFUSED = "plugin.refused": "The plugin's library was refused.";
    error PLUGIN_DUPLICATE = "plugin.duplicate": "Two libraries offer the plugin.";
    error PLUGIN_WRONG_KIND = "plugin.wrong_kind": "A sink stands where a transform is wanted, or the other way round.";
    warning PLUGIN_FILE = "plugin.unusable_file": "A library in a plugin folder cannot be used, and no pipeline needs it.";
    error PLUGIN_SCHEMA = "plugin.bad_schema": "The plugin's own configuration schema is unusable.";
    error PLUGIN_UNKNOWN_OPTION = "plugin.unknown_option": "The plugin knows no option of this name.";
    error PLUGIN_MISSING_OPTION = "plugin.missing_option": "An option that the plugin requires is absent.";
    error PLUGIN_OPTION_TYPE = "plugin.option_type": "An option has another type than the plugin's schema says.";
    error PLUGIN_OPTION_VALUE = "plugin.option_value": "The plugin does not accept the option's value.";

    error ONLINE_KAFKA = "online.kafka": "Kafka did not answer (`weir validate --online` only).";
    warning ONLINE_TOPIC = "online.topic": "A source topic does not exist (`weir validate --online` only).";
    error ONLINE_SINK =
        "online.sink": "The target of a sink cannot be written as configured (`weir validate --online` only).";
    warning ONLINE_SINK_WARNING =
        "online.sink_warning": "The target of a sink may do harm later (`weir validate --online` only).";

    error TOO_MANY = "topology.too_many_errors": "The file has more errors than are listed.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_dotted_and_documented() {
        let mut seen = std::collections::BTreeSet::new();
        for row in CODES {
            assert!(seen.insert(row.code), "{} stands twice", row.code);
            assert_eq!(row.code.split('.').count(), 2, "{}", row.code);
            assert!(row.doc.ends_with('.'), "{}", row.code);
        }
    }
}
