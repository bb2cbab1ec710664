//! Every code of an error that is met after the topology file was read: in the last line on stderr, in the log, in
//! `/readyz`, and in the header `exception.class.name` of dead letters. Diagnostics of the file and refused libraries have
//! catalogues of their own: [`crate::topology::CODES`], [`crate::plugin::code::REFUSALS`].

/// One row: a stable dotted code, what it means, and what follows or cures it. A code that ends in `*` stands for all
/// codes that begin so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeCode {
    pub code: &'static str,
    pub meaning: &'static str,
    pub then: &'static str,
}

const fn row(code: &'static str, meaning: &'static str, then: &'static str) -> RuntimeCode {
    RuntimeCode {
        code,
        meaning,
        then,
    }
}

/// In the order of the documentation.
pub const RUNTIME_CODES: &[RuntimeCode] = &[
    row(
        "source.gap",
        "Retention deleted records between the committed offset and the first one that is left.",
        "The host ends. `on_gap: skip` goes on behind the gap and counts what is lost.",
    ),
    row(
        "source.topic_recreated",
        "The committed offset lies above the end of the partition.",
        "The host ends. Reset the group's offsets.",
    ),
    row(
        "source.no_position",
        "Nothing was ever committed, and `auto.offset.reset` is `error`.",
        "The host ends. Commit an offset, or choose `earliest` or `latest`.",
    ),
    row(
        "source.position",
        "The broker does not hold the position that is being read.",
        "The task starts again and judges its position anew.",
    ),
    row(
        "checkpoint.missing",
        "The group's offset says that a checkpoint goes with it, and the checkpoint topic has none, or only an older one.",
        "The host ends. Restore the topic, or give the state up with `weir checkpoints reset`.",
    ),
    row(
        "checkpoint.offset_mismatch",
        "The group's offset is another than the checkpoint's: somebody moved it.",
        "The host ends. Set the group back, or give the state up with `weir checkpoints reset`.",
    ),
    row(
        "checkpoint.no_offset",
        "There is a checkpoint and the group has no offset: it was deleted, or its offsets expired.",
        "The host ends. Set the group's offset to the checkpoint's, or give the state up with `weir checkpoints reset`.",
    ),
    row(
        "checkpoint.incomplete",
        "The checkpoint topic names parts that it does not hold.",
        "The host ends. Restore the topic, or give the state up with `weir checkpoints reset`.",
    ),
    row(
        "checkpoint.damaged",
        "A record of the checkpoint topic is damaged, or a newer version of Weir wrote it.",
        "The host ends. Run that version, restore the topic, or give the state up with `weir checkpoints reset`.",
    ),
    row(
        "checkpoint.state_refused",
        "A transform cannot read the state that the checkpoint has of it: another plugin version or configuration wrote it.",
        "The host ends. Run what wrote it, or give the state up with `weir checkpoints reset --node NODE`.",
    ),
    row(
        "checkpoint.unknown_node",
        "The checkpoint has state of a transform that the pipeline does not have any more.",
        "The host ends. Name the transform as before, or give the state up with `weir checkpoints reset --node NODE`.",
    ),
    row(
        "checkpoint.state_too_large",
        "The state of one partition has more than 32,768 parts or 64 MiB.",
        "The host ends. Let the transforms keep less.",
    ),
    row(
        "checkpoints.stateless",
        "`weir checkpoints` was asked for a pipeline that keeps no state.",
        "There is nothing to do.",
    ),
    row(
        "checkpoints.active",
        "`weir checkpoints import` or `reset` found members in a group of the pipeline.",
        "Nothing was changed. Stop every host of the pipeline first.",
    ),
    row(
        "checkpoints.incomplete",
        "One transform's state cannot be taken out of a checkpoint that is not whole.",
        "Nothing was changed. Reset all of it, without `--node`.",
    ),
    row(
        "checkpoints.unknown_node",
        "No checkpoint has state of the transform that `--node` names.",
        "Nothing was changed. Name one of those that the message lists.",
    ),
    row(
        "checkpoints.unwritten",
        "Kafka did not take the records of the checkpoint topic.",
        "Run the command again: it begins anew.",
    ),
    row(
        "checkpoints.file",
        "The file of an export or import cannot be read or written.",
        "Nothing was changed. Correct the path or the file.",
    ),
    row(
        "kafka.transaction_aborted",
        "The brokers asked for an abort of the transaction.",
        "The task starts again from its committed offsets; nothing of the transaction was visible.",
    ),
    row(
        "kafka.producer_fenced",
        "The coordinator ended a transaction that was open too long, or another producer took over its transactional id.",
        "The task starts again from its committed offsets; nothing of the transaction was visible.",
    ),
    row(
        "task.panicked",
        "The host itself has a defect, and a task ended by it.",
        "Start the host again; what was not committed is read again. Report the lines above.",
    ),
    row(
        "kafka.not_allowed",
        "The principal of the host's client may not read the topic or the offsets of the group.",
        "Give it READ on the topic and the group; nothing was read or committed.",
    ),
    row(
        "kafka.leftovers",
        "What an earlier run of the task may have left open in Kafka could not be aborted for a minute: a coordinator or a leader was not there.",
        "The task tries again by itself; look at the brokers if it goes on. Nothing is read meanwhile.",
    ),
    row(
        "kafka.transactions_refused",
        "The brokers do not allow the transaction: a missing permission, a transaction.timeout.ms above their transaction.max.timeout.ms, or brokers without transactions.",
        "Correct what the message names, or set `delivery: at_least_once`.",
    ),
    row(
        "kafka.transaction_unanswered",
        "The end of a transaction was not answered before the host had to end.",
        "Whoever comes next finds the transaction committed or aborted, as a whole.",
    ),
    row(
        "kafka.transactions_not_kept",
        "The brokers accepted a transaction and did not keep the offsets in it.",
        "The host ends. Set `delivery: at_least_once`, or use brokers that keep transactions.",
    ),
    row(
        "kafka.commit",
        "The group did not take the offsets that belong to a checkpoint.",
        "The task starts again from its newest checkpoint.",
    ),
    row(
        "kafka.unanswered",
        "Kafka gave no answer while the checkpoint topic was read.",
        "The task starts again.",
    ),
    row(
        "host.stand_by",
        "Another host is the active one of a pipeline whose result needs every partition.",
        "This one drops its state and stands by.",
    ),
    row(
        "source.timestamp_in_future",
        "A record's timestamp lies more than `max_future` ahead of the host's clock.",
        "`on_error` takes the record.",
    ),
    row(
        "transform.retry_timeout",
        "A transform asked for retries for longer than `on_error.retry_timeout`.",
        "`on_error` takes the record.",
    ),
    row(
        "plugin.record_error",
        "A transform refused a record with an error that has no code of its own.",
        "`on_error` takes the record.",
    ),
    row(
        "plugin.retryable",
        "A plugin asked to be called again later.",
        "The same records are given again, after the time it named or 100 ms doubling to 10 s.",
    ),
    row(
        "plugin.panic",
        "A plugin panicked; the message names file and line.",
        "A new instance gets the records one at a time; `on_error` takes the one that panics alone.",
    ),
    row(
        "plugin.protocol.*",
        "A library answered what the plugin protocol forbids, such as consuming more records than it was given.",
        "The task starts again. Report it to the plugin's author.",
    ),
    row(
        "plugin.config",
        "A plugin refused its configuration when the instance was made, though it accepted it before.",
        "The task starts again. Report it to the plugin's author.",
    ),
    row(
        "plugin.schema",
        "A plugin's configuration struct could not be turned into a schema.",
        "The plugin cannot be used. Report it to its author.",
    ),
    row(
        "plugin.kind",
        "A plugin was asked for what it is not: a transform for a sink, or the other way round.",
        "The task starts again. The topology check normally says this before.",
    ),
    row(
        "kafka.client",
        "A client could not be made: librdkafka refuses a property's value.",
        "The host ends. Correct the property under `kafka:`.",
    ),
    row(
        "kafka.topic_create",
        "The cluster refused to create an absent topic.",
        "The host ends. Create the topic by hand, or correct `create:` of its sink.",
    ),
    row(
        "kafka.record_too_large",
        "The client, or a broker, refused a record for good, because of its size.",
        "`on_error` takes it. Where a broker refused, the task goes back to find it: it reads one record at a time, or lets outputs derived from many leave one at a time.",
    ),
    row(
        "kafka.invalid_timestamp",
        "A broker refused a record because of its timestamp.",
        "The task goes back and reads one record at a time, or lets outputs derived from many leave one at a time; `on_error` takes the one that is refused.",
    ),
    row(
        "kafka.invalid_record",
        "A broker refused a record because of its format: a compacted topic wants a key.",
        "The task goes back and reads one record at a time, or lets outputs derived from many leave one at a time; `on_error` takes the one that is refused.",
    ),
    row(
        "kafka.produce",
        "Kafka refused a record for a reason that is not the record's.",
        "The task starts again from its committed offsets.",
    ),
    row(
        "kafka.producer_fatal",
        "The producer is beyond use: fenced, or out of sequence.",
        "The task starts again from its committed offsets.",
    ),
    row(
        "kafka.consumer_fatal",
        "The consumer is beyond use.",
        "The task starts again from its committed offsets.",
    ),
    row(
        "kafka.partitions_lost",
        "The group gave the partitions away because the session expired.",
        "Nothing of them is committed; the task joins again.",
    ),
    row(
        "kafka.revoked",
        "Revoked partitions were not finished within 30 s.",
        "What was settled is committed; the task joins again.",
    ),
    row(
        "kafka.queue",
        "librdkafka gave no queue for an assigned partition.",
        "The task starts again.",
    ),
    row(
        "kafka.client_call",
        "librdkafka refused a call.",
        "The task starts again.",
    ),
    row(
        "task.crash_loop",
        "A task broke nine times without a minute of work between, and without learning which record is at fault.",
        "The host ends with exit code 1; the line names the last cause.",
    ),
    row(
        "task.poisoned",
        "More than 1,000 records of a task were found to be at fault without a commit behind them: stateful plugins panic at them, or Kafka refuses what is made of them.",
        "The host ends with exit code 1; the line names the last cause.",
    ),
    row(
        "host.drain",
        "The drain broke, or its deadline passed, with records on their way.",
        "Exit code 1. What is settled is committed, the rest is read again.",
    ),
    row(
        "host.thread",
        "The operating system gave no thread.",
        "Exit code 1. Raise the limit of threads.",
    ),
    row(
        "host.signals",
        "Signal handlers could not be installed.",
        "Exit code 2.",
    ),
    row(
        "host.parent",
        "A host of `weir up` could not watch its supervisor.",
        "Exit code 2.",
    ),
    row(
        "host.log",
        "The log could not be set up.",
        "Nothing starts.",
    ),
    row(
        "host.stdout",
        "The answer could not be written to stdout.",
        "Exit code 1.",
    ),
    row(
        "run.which_pipeline",
        "The file declares several pipelines and none was named.",
        "Exit code 2. Name one, or use `weir up`.",
    ),
    row(
        "run.unknown_pipeline",
        "The file declares no pipeline of this name.",
        "Exit code 2.",
    ),
    row(
        "http.address_in_use",
        "The HTTP address that was set is taken.",
        "Exit code 2. Choose another, or `off`.",
    ),
    row(
        "http.no_free_port",
        "No address was set, and 8083 and the 100 ports after it are taken.",
        "Exit code 2. Set an address, or `off`.",
    ),
    row(
        "http.address_refused",
        "The operating system refuses the HTTP address.",
        "Exit code 2. Choose an address of this machine.",
    ),
    row(
        "http.start",
        "The HTTP thread could not start.",
        "Exit code 2.",
    ),
    row(
        "up.program",
        "`weir up` does not find its own program.",
        "Exit code 1. Mount /proc.",
    ),
    row(
        "up.signals",
        "`weir up` cannot receive signals.",
        "Exit code 1.",
    ),
    row(
        "test.file",
        "A file of a golden test cannot be read or written.",
        "The test is refused.",
    ),
    row(
        "test.line",
        "A line of a golden test's file is not what it should be.",
        "The test is refused; the message names file and line.",
    ),
    row(
        "test.pipeline",
        "A golden test's file declares no pipeline or several.",
        "The test is refused.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::plugin::code::REFUSALS;
    use crate::topology::CODES;

    /// First parts of codes.
    const AREAS: &[&str] = &[
        "source",
        "transform",
        "plugin",
        "kafka",
        "checkpoint",
        "checkpoints",
        "task",
        "host",
        "run",
        "http",
        "up",
        "test",
    ];

    fn is_word(text: &str) -> bool {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    }

    /// `"area.word"`, `"area.word.word"` and the same before `: ` at the begin of a text.
    fn code_of(literal: &str) -> Option<String> {
        let end = literal.find(['"', ':']).unwrap_or(literal.len());
        let code = literal.get(..end)?;
        let mut parts = code.split('.');
        let is_area = parts.next().is_some_and(|area| AREAS.contains(&area));
        let words: Vec<&str> = parts.collect();
        let is_code = is_area && matches!(words.len(), 1 | 2) && words.iter().all(|w| is_word(w));
        is_code.then(|| code.to_owned())
    }

    fn collect(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("topology") {
                collect(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("codes.rs")
            {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.extend(text.split('"').skip(1).filter_map(code_of));
            }
        }
    }

    #[test]
    fn the_catalogue_has_every_code_of_the_source_and_no_other() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut used = BTreeSet::new();
        collect(&root.join("src"), &mut used);
        collect(&root.join("../plugins/sdk/src"), &mut used);
        let is_known = |code: &str| {
            RUNTIME_CODES
                .iter()
                .any(|row| match row.code.strip_suffix('*') {
                    Some(area) => code.starts_with(area),
                    None => row.code == code,
                })
                || CODES.iter().any(|row| row.code == code)
                || REFUSALS.iter().any(|(refusal, _)| *refusal == code)
        };
        let missing: Vec<&String> = used.iter().filter(|code| !is_known(code)).collect();
        assert!(missing.is_empty(), "not in the catalogue: {missing:?}");
        let is_unused = |row: &&RuntimeCode| {
            let exact = row.code.trim_end_matches('*');
            !used.iter().any(|code| code.starts_with(exact))
        };
        let stale: Vec<&RuntimeCode> = RUNTIME_CODES.iter().filter(is_unused).collect();
        assert!(stale.is_empty(), "in no source file: {stale:?}");
    }

    #[test]
    fn codes_stand_once() {
        let codes: BTreeSet<&str> = RUNTIME_CODES.iter().map(|row| row.code).collect();
        assert_eq!(codes.len(), RUNTIME_CODES.len());
    }
}
