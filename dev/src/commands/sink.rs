//! Long runs of the Elasticsearch sink, alone and in a host.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer};
use weir_dev::sink::{
    BenchOptions, HostSoakReport, SoakOptions, SoakReport, bench, soak, soak_in_host,
};

#[derive(Debug, Args)]
pub struct SinkSoak {
    /// Seed of the faults; another one each time if not given.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Documents that the records are about.
    #[arg(long, default_value_t = 20_000)]
    keys: u64,
    /// Through a Kafka of its own and a host process of this build.
    #[arg(long)]
    host: bool,
}

impl SinkSoak {
    /// Ends well if nothing was lost, doubled or ended wrongly.
    pub fn run(&self) -> Result<ExitCode> {
        let options = SoakOptions {
            records: self.records,
            keys: self.keys.max(1),
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        };
        println!(
            "seed {}, {} records about {} documents",
            options.seed, options.records, options.keys
        );
        match self.host {
            true => say_in_host(&soak_in_host(options)?),
            false => say_alone(&soak(options)?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn say_alone(report: &SoakReport) {
    println!(
        "{} faults, {} requests in {:.1} s; {} documents as the model has them, {} poisoned records rejected, nothing pending",
        report.faults,
        report.requests,
        report.elapsed.as_secs_f64(),
        report.documents,
        report.rejected,
    );
    println!(
        "memory: {} KiB when warm, {} KiB at the end",
        report.warm_kib, report.end_kib
    );
}

fn say_in_host(report: &HostSoakReport) {
    println!(
        "{} faults, {} requests, {} rewinds in {:.1} s; {} documents and {} dead letters as the model has them, nothing pending, no lag",
        report.faults,
        report.requests,
        report.rewinds,
        report.elapsed.as_secs_f64(),
        report.documents,
        report.dead_letters,
    );
    println!(
        "memory of the host: {} KiB when warm, {} KiB at the end",
        report.warm_bytes / 1_024,
        report.end_bytes / 1_024
    );
}

#[derive(Debug, Args)]
pub struct SinkBench {
    #[arg(long, default_value_t = 200_000)]
    records: usize,
    /// Requests on their way at once, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    flights: Vec<usize>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A running server without security (`http://host:port`) in place of one of its own; its index `sink-bench` is
    /// deleted.
    #[arg(long)]
    url: Option<String>,
}

impl SinkBench {
    pub fn run(&self) -> Result<ExitCode> {
        let mut server = match &self.url {
            Some(_) => None,
            None => Some(ElasticsearchServer::start(ElasticsearchOptions::default())?),
        };
        let own_url = server.as_ref().map(ElasticsearchServer::url);
        let process = server.as_mut().and_then(ElasticsearchServer::process_mut);
        print!(
            "{}",
            bench(&BenchOptions {
                url: self.url.clone().or(own_url).unwrap_or_default(),
                server_pid: process.map(|process| process.id()),
                records: self.records,
                flights: self.flights.clone(),
                rounds: self.rounds,
            })?
        );
        Ok(ExitCode::SUCCESS)
    }
}
