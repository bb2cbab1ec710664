//! `weir-dev`: what a contributor runs beside the product.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Real servers for tests, benchmarks, the generated reference. Servers need Java 17 and Maven.
#[derive(Debug, Parser)]
#[command(name = "weir-dev", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a command beside a real Kafka and Elasticsearch, named in its environment.
    WithServers(commands::with_servers::WithServers),
    /// Measures reduce-visits against a bare rdkafka loop (release build; starts its own Kafka).
    Bench(commands::bench::Bench),
    /// Runs the reference job under a random schedule of faults, and judges it (starts its own servers).
    Chaos(commands::chaos::Chaos),
    /// The bare rdkafka loop itself, until SIGTERM.
    #[command(hide = true)]
    BareLoop(commands::bench::BareLoopArguments),
    /// Writes the generated reference in docs/, or checks it.
    Docs(commands::docs::Docs),
    /// Reads random and damaged checkpoint records: the reader must not panic.
    FuzzCheckpoints(commands::fuzz::FuzzCheckpoints),
    /// Runs many records through the Elasticsearch sink while its server fails at random, and judges the result.
    SinkSoak(commands::sink::SinkSoak),
    /// Measures the Elasticsearch sink against a bare loop of the same requests (release build; starts its own server).
    SinkBench(commands::sink::SinkBench),
    /// Runs a real Kafka in the foreground and prints its address.
    Kafka,
    /// Runs a real Elasticsearch in the foreground and prints its address.
    Elasticsearch(commands::foreground::ElasticsearchArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::WithServers(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Chaos(arguments) => arguments.run(),
        Command::BareLoop(arguments) => arguments.run(),
        Command::Docs(arguments) => arguments.run(),
        Command::FuzzCheckpoints(arguments) => arguments.run(),
        Command::SinkSoak(arguments) => arguments.run(),
        Command::SinkBench(arguments) => arguments.run(),
        Command::Kafka => commands::foreground::kafka(),
        Command::Elasticsearch(arguments) => commands::foreground::elasticsearch(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("weir-dev: {error:#}");
        ExitCode::FAILURE
    })
}
