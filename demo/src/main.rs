//! `weir-demo`: the demo, and the visit generator by itself.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::{SignedDuration, Timestamp};
use signal_hook::consts::{SIGINT, SIGTERM};

use weir_demo::error::DemoError;
use weir_demo::produce::{Deliveries, Generator};
use weir_demo::run::{self, Options};
use weir_demo::visits::{OPEN_VISITS, Visits};
use weir_demo::{duration, topics};

/// Between two reports of `generate`.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The SLA monitor on one machine: embedded broker and document store, visits, both pipelines, a live view.
#[derive(Parser)]
#[command(name = "weir-demo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Send visits to a broker, and nothing else
    Generate(GenerateArgs),
    /// Print visits, one a line
    Rows(RowsArgs),
}

#[derive(Args)]
struct RunArgs {
    /// The topology file
    #[arg(short, long, default_value = "connectors.yaml")]
    file: PathBuf,
    /// The `weir` program [default: beside this one]
    #[arg(long)]
    weir: Option<PathBuf>,
    /// A real broker instead of the embedded one
    #[arg(long, env = "KAFKA_BOOTSTRAP")]
    kafka_bootstrap: Option<String>,
    /// A real Elasticsearch instead of the embedded document store
    #[arg(long, env = "ELASTICSEARCH_URL")]
    elasticsearch_url: Option<String>,
    /// What each visit's processing takes, such as 10s; above 5s the SLA is missed
    #[arg(long, env = "DELAY")]
    delay: Option<String>,
    /// Visits per second [default: 200, or what a delayed pipeline can bear]
    #[arg(long, env = "RATE", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Seed of the visits [default: random]
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// End after so many closed windows
    #[arg(long, env = "WINDOWS")]
    windows: Option<usize>,
    /// Fail if the windows of --windows have not closed by then, such as 5m
    #[arg(long, requires = "windows", value_parser = duration::parse)]
    deadline: Option<Duration>,
    /// Lines instead of the live view, as where stdout is no terminal
    #[arg(long)]
    plain: bool,
}

#[derive(Args)]
struct GenerateArgs {
    #[arg(long, env = "KAFKA_BOOTSTRAP")]
    bootstrap: String,
    #[arg(long, default_value = topics::VISITS)]
    topic: String,
    /// Visits per second
    #[arg(long, default_value_t = 200.0, value_parser = parse_rate)]
    rate: f64,
    /// Seed of the visits [default: random]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
struct RowsArgs {
    #[arg(long, default_value_t = 300)]
    count: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Visits that are open at once
    #[arg(long, default_value_t = OPEN_VISITS)]
    open_visits: usize,
    /// Time of the first row; the others follow second by second [default: now]
    #[arg(long)]
    start: Option<Timestamp>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> Result<(), DemoError> {
    match cli.command {
        None => run::run(&options(cli.run)?, &interruption()?),
        Some(Command::Generate(arguments)) => generate(&arguments, &interruption()?),
        Some(Command::Rows(arguments)) => print_rows(&arguments),
    }
}

/// `make demo DELAY=` hands empty variables on; they count as unset.
fn set(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

fn options(arguments: RunArgs) -> Result<Options, DemoError> {
    Ok(Options {
        weir: match arguments.weir {
            Some(weir) => weir,
            None => beside_this_program()?,
        },
        topology: arguments.file,
        bootstrap: set(arguments.kafka_bootstrap),
        elasticsearch: set(arguments.elasticsearch_url),
        processing_delay: set(arguments.delay).unwrap_or_else(|| "0s".to_owned()),
        rate: arguments.rate,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
        windows: arguments.windows,
        deadline: arguments.deadline,
        plain: arguments.plain,
    })
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1_000_000.0 => Ok(rate),
        _ => Err("a rate is a number above 0 and up to 1000000".to_owned()),
    }
}

fn beside_this_program() -> Result<PathBuf, DemoError> {
    let this = std::env::current_exe().map_err(|cause| DemoError::Io {
        what: "this program cannot be found; name the host with --weir",
        cause,
    })?;
    Ok(this.with_file_name("weir"))
}

/// A flag that SIGINT and SIGTERM set; the second of them ends the program at once.
fn interruption() -> Result<Arc<AtomicBool>, DemoError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag still down.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|cause| DemoError::Io {
                what: "signals cannot be caught",
                cause,
            })?;
    }
    Ok(interrupted)
}

fn generate(arguments: &GenerateArgs, interrupted: &Arc<AtomicBool>) -> Result<(), DemoError> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!(
        "sending {} visits per second to {} on {}, seed {seed}",
        arguments.rate, arguments.topic, arguments.bootstrap
    );
    let deliveries = Arc::new(Deliveries::default());
    let mut generator = Generator::new(
        &arguments.bootstrap,
        &arguments.topic,
        arguments.rate,
        Visits::new(seed, OPEN_VISITS),
        Arc::clone(&deliveries),
    )?;
    let finished = Arc::new(AtomicBool::new(false));
    let reporter = {
        let (finished, deliveries) = (Arc::clone(&finished), Arc::clone(&deliveries));
        std::thread::spawn(move || {
            while !finished.load(Ordering::Relaxed) {
                std::thread::park_timeout(REPORT_EVERY);
                report(&deliveries);
            }
        })
    };
    let outcome = generator.run(interrupted);
    finished.store(true, Ordering::Relaxed);
    reporter.thread().unpark();
    // A reporter that panicked has said so itself.
    let _ = reporter.join();
    outcome
}

fn report(deliveries: &Deliveries) {
    let sent = deliveries.sent.load(Ordering::Relaxed);
    let failed = deliveries.failed.load(Ordering::Relaxed);
    eprintln!("{sent} visits sent, {failed} failed");
}

fn print_rows(arguments: &RowsArgs) -> Result<(), DemoError> {
    let start = arguments.start.unwrap_or_else(Timestamp::now);
    let mut visits = Visits::new(arguments.seed, arguments.open_visits);
    let mut out = io::stdout().lock();
    for second in 0..arguments.count {
        let later = SignedDuration::from_secs(i64::try_from(second).unwrap_or(i64::MAX));
        let row = visits.next_row(start.checked_add(later).unwrap_or(start));
        match writeln!(out, "{}", row.value) {
            // `weir-demo rows | head` has seen enough.
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|cause| DemoError::Io {
                what: "the rows cannot be written",
                cause,
            })?,
        }
    }
    Ok(())
}
