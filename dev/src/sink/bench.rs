//! Documents into a real Elasticsearch: the sink against a bare loop that sends the same bodies with the same client.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use weir_elasticsearch::ElasticsearchSink;
use weir_plugin_sdk::Flush;
use weir_plugin_sdk::testing::{SinkHarness, TestBatch, TestRecord};

use super::bench_report::{BenchReport, BenchRun, Contestant};
use super::process::cpu_time;
use crate::bench::cost;
use crate::client::Index;

const INDEX: &str = "sink-bench";
const BULK_RECORDS: usize = 1_000;
/// A host hands over batches of at most this many.
const BATCH_RECORDS: usize = 1_024;
/// What a host sleeps before it asks a full sink again.
const FULL_WAIT: Duration = Duration::from_millis(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// `http://host:port` of a server without security. An index `sink-bench` is made and deleted there.
    pub url: String,
    /// Of the server, to say what it uses.
    pub server_pid: Option<u32>,
    pub records: usize,
    /// Requests on their way at once, one group of measurements each.
    pub flights: Vec<usize>,
    /// How often each contestant runs; they take turns.
    pub rounds: usize,
}

/// The contestants take turns for each number of flights, each time into a new index. Errors: a document was
/// not stored, or the server was not reached.
pub fn bench(options: &BenchOptions) -> Result<BenchReport> {
    let mut report = BenchReport::default();
    // The first documents of a server are slow for everybody.
    for contestant in [Contestant::Sink, Contestant::Bare] {
        measure(options, contestant, 4)?;
    }
    for flights in &options.flights {
        for round in 0..options.rounds {
            let mut turns = [Contestant::Bare, Contestant::Sink];
            turns.rotate_left(round % 2);
            for contestant in turns {
                report.runs.push(measure(options, contestant, *flights)?);
            }
        }
    }
    Ok(report)
}

fn measure(options: &BenchOptions, contestant: Contestant, flights: usize) -> Result<BenchRun> {
    let index = Index::at(&options.url, INDEX);
    index.delete()?;
    let server_cpu = || options.server_pid.map(cost::cpu_seconds).transpose();
    let server_cpu_before = server_cpu()?;
    let (elapsed, cpu) = match contestant {
        Contestant::Bare => bare(options, flights)?,
        Contestant::Sink => sink(options, flights)?,
    };
    let server_cpu_s = server_cpu()?
        .zip(server_cpu_before)
        .map(|(after, before)| after - before);
    let stored = index.count()?;
    ensure!(
        stored == options.records as u64,
        "{contestant:?} stored {stored} documents of {}",
        options.records
    );
    index.delete()?;
    Ok(BenchRun {
        contestant,
        flights,
        elapsed,
        cpu,
        server_cpu_s,
        records: options.records,
    })
}

fn document(number: usize) -> String {
    json!({
        "@timestamp": 1_717_200_000_000_u64 + number as u64,
        "visit": { "id": format!("4734813973514169{number:08}"), "event_time": 1_717_200_000 + number },
        "latency_ms": number % 997, "text": "one of many documents of about two hundred bytes, as pipelines write them",
    })
    .to_string()
}

fn sink(options: &BenchOptions, flights: usize) -> Result<(Duration, Duration)> {
    let config = json!({
        "urls": [options.url], "index": INDEX, "max_in_flight": flights,
        "batch": { "records": BULK_RECORDS },
    });
    let mut sink = SinkHarness::new::<ElasticsearchSink>(config)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let records: Vec<TestRecord> = (0..options.records)
        .map(|number| {
            let offset = i64::try_from(number).unwrap_or(i64::MAX);
            TestRecord::value(document(number))
                .with_key(format!("id{number}"))
                .offset(offset)
        })
        .collect();
    // Made before the clock starts, like the bare loop's bodies: batches are a host's work.
    let batches: Vec<TestBatch> = records
        .chunks(BATCH_RECORDS)
        .map(|records| sink.batch(records))
        .collect();
    let (started_at, cpu_before) = (Instant::now(), cpu_time());
    let mut stored = 0;
    for batch in &batches {
        let mut written = 0;
        while written < batch.len() {
            let (accepted, _) = sink
                .write_batch(batch, written)
                .map_err(anyhow::Error::msg)?;
            written += accepted;
            stored += sink.settlements().settled.drain(..).count();
            if written < batch.len() {
                thread::sleep(FULL_WAIT);
            }
        }
    }
    while sink.flush(100).map_err(anyhow::Error::msg)? == Flush::Pending {}
    stored += sink.settlements().settled.drain(..).count();
    ensure!(
        stored == options.records,
        "the sink stored {stored} of {}",
        options.records
    );
    Ok((started_at.elapsed(), cpu_time().saturating_sub(cpu_before)))
}

/// Bodies as the sink makes them, made before the clock starts: the loop's cost is the client's alone.
fn bodies(options: &BenchOptions) -> VecDeque<Vec<u8>> {
    let numbers: Vec<usize> = (0..options.records).collect();
    let body = |numbers: &[usize]| {
        let lines = numbers.iter().map(|number| {
            let document = document(*number);
            format!(
                "{{\"index\":{{\"_index\":\"{INDEX}\",\"_id\":\"id{number}\",\"version\":{number},\"version_type\":\"external\"}}}}\n{document}\n"
            )
        });
        lines.collect::<String>().into_bytes()
    };
    numbers.chunks(BULK_RECORDS).map(body).collect()
}

fn bare(options: &BenchOptions, flights: usize) -> Result<(Duration, Duration)> {
    let mut bodies = bodies(options);
    let client = Client::builder().no_proxy().build()?;
    let path = "_bulk?filter_path=errors,items.*._id,items.*.status,items.*.error";
    let url = format!("{}/{path}", options.url.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (started_at, cpu_before) = (Instant::now(), cpu_time());
    runtime.block_on(async {
        let mut requests = JoinSet::new();
        loop {
            while requests.len() < flights
                && let Some(body) = bodies.pop_front()
            {
                let request = client
                    .post(&url)
                    .header(CONTENT_TYPE, "application/x-ndjson");
                requests.spawn(send(request.timeout(REQUEST_TIMEOUT).body(body)));
            }
            match requests.join_next().await {
                Some(answer) => answer??,
                None => return Ok::<(), anyhow::Error>(()),
            }
        }
    })?;
    Ok((started_at.elapsed(), cpu_time().saturating_sub(cpu_before)))
}

async fn send(request: RequestBuilder) -> Result<()> {
    let answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
    ensure!(answer["errors"] == json!(false), "a bulk failed: {answer}");
    Ok(())
}
