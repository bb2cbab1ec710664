//! The command line.
//!
//! Usage errors end the process with exit code 2, which clap does by itself.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::http::Listen;
use crate::log::{Format, Level};

/// Run pipelines of native plugins between Kafka and other systems.
///
/// A topology file (connectors.yaml) declares pipelines: Kafka sources, transforms and sinks. Transforms and sinks
/// are plugins, libraries that Weir finds in the folders which the file names.
///
/// Begin with `weir validate`, which shows every mistake of the file at once, then `weir up`, which runs every
/// pipeline of it. In production, run one `weir run PIPELINE` per process.
///
/// Answers go to stdout, the log and diagnostics to stderr. Exit codes: 0 done or drained, 1 failed while running,
/// 2 refused before anything started. NO_COLOR switches colours off.
#[derive(Debug, Parser)]
#[command(name = "weir", arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// The topology file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "connectors.yaml"
    )]
    pub file: PathBuf,
    /// How log lines look: text for people, or one JSON object a line
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
    /// The least serious level that is logged
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one pipeline in this process
    ///
    /// The host connects to Kafka, waits where Kafka, a topic or a sink is away, and runs until SIGTERM or Ctrl-C;
    /// then it drains within the pipeline's `shutdown_timeout` (30s). A second signal ends it at once. It logs the
    /// event `ready` when every source has its assignment.
    Run(RunOptions),
    /// Run every pipeline of the file, each in a process of its own
    ///
    /// Starts `weir run` once per pipeline, prefixes its log lines with the pipeline's name, and starts it again when
    /// it dies: after 1 s, doubling to 1 min. A pipeline that is refused (exit 2) drains the others and ends with 2.
    Up(UpOptions),
    /// Check the file and show every error at once
    ///
    /// Reads the file and asks the plugins about their configuration. Nothing is contacted without --online. Exit
    /// code 2 if there is any error.
    Validate(ValidateOptions),
    /// List the plugins that the file's folders hold
    ///
    /// Shows name, kind, version, ABI version, compiler, scope, description and file of each plugin, and for files
    /// that are refused the reason (exit code 2).
    Plugins(PluginsOptions),
    /// Draw the topology
    Graph(GraphOptions),
    /// Run golden tests of pipelines, without a broker
    ///
    /// Each folder holds `pipeline.yaml` (one pipeline; `clock:` says where the wall clock stands), `input.jsonl` with
    /// records, and `expected.jsonl` with what must come out. `"*"` in an expected value matches anything.
    Test(TestOptions),
    /// Look at, save, bring back or give up the state of a pipeline
    ///
    /// State lives in the topic `__weir.PIPELINE.checkpoints`. `import` and `reset` write to it and to the offsets of the
    /// source's group, and refuse to while a host works or stands by.
    Checkpoints(CheckpointsOptions),
}

/// Options of `weir checkpoints`.
#[derive(Debug, Clone, Args)]
pub struct CheckpointsOptions {
    /// What to do
    #[command(subcommand)]
    pub action: CheckpointAction,
}

/// What `weir checkpoints` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum CheckpointAction {
    /// Show the newest checkpoint of each partition
    Show {
        /// The pipeline; may be left out where the file declares one
        pipeline: Option<String>,
        /// How the list is shown
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: AnswerFormat,
    },
    /// Write all checkpoints, state and offsets, to a file
    Export {
        /// The pipeline; may be left out where the file declares one
        pipeline: Option<String>,
        /// Where to write; stdout if not given
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Replace state and offsets by those of an exported file
    Import {
        /// The pipeline; may be left out where the file declares one
        pipeline: Option<String>,
        /// A file that `export` wrote
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Give the state up; the pipeline goes on from its committed offsets without it
    Reset {
        /// The pipeline; may be left out where the file declares one
        pipeline: Option<String>,
        /// Only the state of this transform
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
}

/// Options of `weir run`.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// The pipeline; may be left out where the file declares one
    pub pipeline: Option<String>,
    /// Where /healthz, /readyz and /metrics are served: HOST:PORT, or off
    ///
    /// Overrides `http: {listen: ...}` of the file. Port 0 takes a free port, which the event `ready` names. Without
    /// either: 127.0.0.1:8083 or the next free port. A set port that is taken is refused with exit code 2.
    #[arg(long, value_name = "ADDR|off")]
    pub http: Option<Listen>,
    /// A lasting name of this host, which makes its group membership static
    ///
    /// A host that comes back under its name within the session timeout gets its partitions back without a
    /// rebalance. Two hosts of one pipeline need two names. Without it each start is a new member.
    #[arg(long, value_name = "NAME", value_parser = instance_name)]
    pub instance: Option<String>,
    /// The process whose death ends this one; `weir up` sets it
    #[arg(long, value_name = "PID", hide = true)]
    pub parent_pid: Option<i32>,
}

/// Options of `weir up`.
#[derive(Debug, Clone, Args)]
pub struct UpOptions {
    /// Where /healthz, /readyz and /metrics of all pipelines together are served: HOST:PORT, or off
    ///
    /// Overrides `http: {listen: ...}` of the file. The hosts themselves take free ports and report them.
    #[arg(long, value_name = "ADDR|off")]
    pub http: Option<Listen>,
}

/// Options of `weir validate`.
#[derive(Debug, Clone, Args)]
pub struct ValidateOptions {
    /// How errors are shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: AnswerFormat,
    /// Also ask Kafka whether it answers and has the source topics
    #[arg(long)]
    pub online: bool,
}

/// Options of `weir plugins`.
#[derive(Debug, Clone, Args)]
pub struct PluginsOptions {
    /// Show this plugin only
    pub name: Option<String>,
    /// How the list is shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: AnswerFormat,
    /// Print the JSON Schema of the configuration
    #[arg(long)]
    pub schema: bool,
}

/// Options of `weir graph`.
#[derive(Debug, Clone, Args)]
pub struct GraphOptions {
    /// The language of the drawing
    #[arg(long, value_name = "FORMAT", default_value = "mermaid")]
    pub format: GraphFormat,
}

/// Options of `weir test`.
#[derive(Debug, Clone, Args)]
pub struct TestOptions {
    /// Folders of tests, searched downwards; the current folder if none is given
    pub paths: Vec<PathBuf>,
    /// Rewrite the expected records by what came out
    #[arg(long)]
    pub update: bool,
}

/// How an answer on stdout looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// For people.
    Text,
    /// JSON.
    Json,
}

/// The language of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Mermaid, which Markdown viewers draw.
    Mermaid,
    /// Graphviz.
    Dot,
}

/// The command line's definition, from which help and documentation follow. `plugin_abi_version` stands in
/// `--version`.
pub fn command(plugin_abi_version: &str) -> clap::Command {
    let version = format!(
        "{} (plugin ABI {plugin_abi_version})",
        env!("CARGO_PKG_VERSION")
    );
    Cli::command().version(version)
}

/// Reads the process's arguments. Help, version and usage errors end the process.
pub fn parse(plugin_abi_version: &str) -> Cli {
    let mut command = command(plugin_abi_version);
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// The name goes into a `group.instance.id` and a `transactional.id`.
fn instance_name(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_legal) {
        return Err("an instance name is 1 to 64 letters, digits, '.', '_' or '-'".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Cli, clap::Error> {
        let matches = command("9.8.7").try_get_matches_from(arguments)?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_definition_is_sound() {
        command("1.0.0").debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for arguments in [
            [
                "weir",
                "-f",
                "x.yaml",
                "--log-format",
                "json",
                "run",
                "visits",
            ],
            [
                "weir",
                "run",
                "visits",
                "--file",
                "x.yaml",
                "--log-format",
                "json",
            ],
        ] {
            let cli = read(&arguments).expect("legal");
            assert_eq!(cli.global.file, PathBuf::from("x.yaml"));
            assert_eq!(cli.global.log_format, Format::Json);
            assert_eq!(cli.global.log_level, Level::Info);
            assert!(
                matches!(cli.command, Command::Run(run) if run.pipeline.as_deref() == Some("visits"))
            );
        }
    }

    #[test]
    fn listen_addresses_are_read() {
        let http =
            |value: &str| match read(&["weir", "run", "--http", value]).map(|cli| cli.command) {
                Ok(Command::Run(run)) => run.http,
                _ => None,
            };
        assert_eq!(http("off"), Some(Listen::Off));
        assert_eq!(
            http("127.0.0.1:0"),
            Some(Listen::Address(([127, 0, 0, 1], 0).into()))
        );
        assert_eq!(http("nonsense"), None);
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_and_version_with_0() {
        for arguments in [
            vec!["weir"],
            vec!["weir", "fly"],
            vec!["weir", "run", "a", "b"],
            vec!["weir", "run", "--instance", "a b"],
            vec!["weir", "validate", "--format", "xml"],
            vec!["weir", "--log-level", "loud", "up"],
        ] {
            assert_eq!(
                read(&arguments).expect_err("illegal").exit_code(),
                2,
                "{arguments:?}"
            );
        }
        let version = read(&["weir", "--version"]).expect_err("a version");
        assert_eq!(version.exit_code(), 0);
        let expected = format!("weir {} (plugin ABI 9.8.7)\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(version.to_string(), expected);
        let help = read(&["weir", "run", "--help"]).expect_err("a help");
        assert_eq!(help.exit_code(), 0);
        assert!(!help.to_string().contains("parent-pid"));
    }
}
