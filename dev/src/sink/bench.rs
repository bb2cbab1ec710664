//! Documents into a real Elasticsearch: the sink against a bare loop that sends the same bodies with the same client.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use weir_elasticsearch::ElasticsearchSink;
use weir_plugin_sdk::Flush;
use weir_plugin_sdk::testing::{SinkHarness, TestRecord};

use super::process::cpu_time;

const BULK_RECORDS: usize = 1_000;
/// A host hands over batches of at most this many.
const CHUNK: usize = 1_024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// `http://host:port` of a server without security.
    pub url: String,
    pub records: usize,
    /// Requests on their way at once, one measurement each.
    pub flights: Vec<usize>,
}

/// One measurement.
#[derive(Debug)]
pub struct BenchRow {
    pub contestant: &'static str,
    pub flights: usize,
    pub elapsed: Duration,
    /// Of this process; the server is another one.
    pub cpu: Duration,
    pub records: usize,
}

impl BenchRow {
    pub fn documents_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    pub fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }
}

/// Both contestants for each number of flights, in turn, each into an index of its own. Errors: a document was not
/// stored, or the server was not reached.
pub fn bench(options: &BenchOptions) -> Result<Vec<BenchRow>> {
    let mut rows = Vec::new();
    // The first documents of a server are slow for everybody.
    sink(options, 1, "warm-up")?;
    for flights in &options.flights {
        rows.push(bare(options, *flights, &format!("bare-{flights}"))?);
        rows.push(sink(options, *flights, &format!("sink-{flights}"))?);
    }
    Ok(rows)
}

fn document(number: usize) -> String {
    json!({
        "@timestamp": 1_717_200_000_000_u64 + number as u64,
        "visit": { "id": format!("4734813973514169{number:08}"), "event_time": 1_717_200_000 + number },
        "latency_ms": number % 997, "text": "one of many documents of about two hundred bytes, as pipelines write them",
    })
    .to_string()
}

fn sink(options: &BenchOptions, flights: usize, index: &str) -> Result<BenchRow> {
    let config = json!({
        "urls": [options.url], "index": index, "max_in_flight": flights,
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
    let (started_at, cpu_before) = (Instant::now(), cpu_time());
    let mut rest = records.as_slice();
    let mut stored = 0;
    while !rest.is_empty() {
        let chunk = rest.get(..CHUNK).unwrap_or(rest);
        let (accepted, _) = sink.write(chunk).map_err(anyhow::Error::msg)?;
        rest = rest.get(accepted..).unwrap_or_default();
        if accepted < chunk.len() {
            sink.flush(20).map_err(anyhow::Error::msg)?;
        }
        stored += sink.settlements().settled.drain(..).count();
    }
    while sink.flush(100).map_err(anyhow::Error::msg)? == Flush::Pending {}
    stored += sink.settlements().settled.drain(..).count();
    ensure!(
        stored == options.records,
        "the sink stored {stored} of {}",
        options.records
    );
    Ok(BenchRow {
        contestant: "sink",
        flights,
        elapsed: started_at.elapsed(),
        cpu: cpu_time().saturating_sub(cpu_before),
        records: options.records,
    })
}

/// Bodies as the sink makes them, made before the clock starts: the loop's cost is the client's alone.
fn bodies(options: &BenchOptions, index: &str) -> VecDeque<Vec<u8>> {
    let numbers: Vec<usize> = (0..options.records).collect();
    let body = |numbers: &[usize]| {
        let lines = numbers.iter().map(|number| {
            let document = document(*number);
            format!(
                "{{\"index\":{{\"_index\":\"{index}\",\"_id\":\"id{number}\",\"version\":{number},\"version_type\":\"external\"}}}}\n{document}\n"
            )
        });
        lines.collect::<String>().into_bytes()
    };
    numbers.chunks(BULK_RECORDS).map(body).collect()
}

fn bare(options: &BenchOptions, flights: usize, index: &str) -> Result<BenchRow> {
    let mut bodies = bodies(options, index);
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
    Ok(BenchRow {
        contestant: "bare",
        flights,
        elapsed: started_at.elapsed(),
        cpu: cpu_time().saturating_sub(cpu_before),
        records: options.records,
    })
}

async fn send(request: RequestBuilder) -> Result<()> {
    let answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
    ensure!(answer["errors"] == json!(false), "a bulk failed: {answer}");
    Ok(())
}
