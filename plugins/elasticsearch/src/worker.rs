//! The sink's own thread: it owns the async runtime and the connections, and runs until it is told to stop.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use weir_plugin_sdk::{Context, Findings, SinkMetric};

use crate::client::{Client, Trip};
use crate::config::ElasticsearchConfig;
use crate::exchange::{Exchange, WorkerState};
use crate::flight::Flight;
use crate::numbers::Numbers;
use crate::preflight;
use crate::scheduler::Scheduler;

/// Longest wait for the thread when the sink is dropped; a thread that needs longer is left to end by itself, which is
/// sound since plugins are never unloaded.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// What the runtime may take for a name look-up or a compression that cannot be cancelled.
const RUNTIME_PATIENCE: Duration = Duration::from_millis(500);
/// An outage is said at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Worker {
    exchange: Arc<Exchange>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Errors: the system gives no thread or no runtime.
    pub(crate) fn start(
        exchange: Arc<Exchange>,
        client: Client,
        scheduler: Scheduler,
        config: ElasticsearchConfig,
        context: Context,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let worker_exchange = Arc::clone(&exchange);
        let body = move || {
            let end = EndNotice {
                exchange: worker_exchange,
            };
            runtime.spawn(say_findings(config, context.clone()));
            let outages = OutageLog {
                context,
                warned_at: None,
                warned: false,
            };
            let result =
                runtime.block_on(serve(&end.exchange, Arc::new(client), scheduler, outages));
            runtime.shutdown_timeout(RUNTIME_PATIENCE);
            end.exchange.worker_ended(match result {
                Ok(()) => WorkerState::Stopped,
                Err(error) => {
                    WorkerState::Failed(format!("a request ended without an outcome: {error}"))
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("elasticsearch".to_owned())
            .spawn(body)?;
        Ok(Worker {
            exchange,
            thread: Some(thread),
        })
    }

    /// Cancels what is on its way and waits a bounded time for the thread.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.exchange.stop();
        if self.exchange.wait_for_end(STOP_PATIENCE) {
            // A panic was reported by the end notice already.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells the task thread, also if the worker unwinds.
struct EndNotice {
    exchange: Arc<Exchange>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.exchange
                .worker_ended(WorkerState::Failed("the worker thread panicked".to_owned()));
        }
    }
}

/// Says at the start what would keep documents waiting; nothing waits for it, for servers may be away by design.
async fn say_findings(config: ElasticsearchConfig, context: Context) {
    let mut findings = Findings::default();
    preflight::check(&config, &mut findings).await;
    for (_, message, help) in findings.iter() {
        context.warn(format!("{message} {help}"));
    }
}

async fn serve(
    exchange: &Exchange,
    client: Arc<Client>,
    mut scheduler: Scheduler,
    mut outages: OutageLog,
) -> Result<(), JoinError> {
    let mut flights: JoinSet<(Flight, Trip)> = JoinSet::new();
    let mut traffic = Numbers::default();
    loop {
        let orders = exchange.take_orders();
        if orders.stopping {
            return Ok(());
        }
        scheduler.set_flushing(orders.flushing);
        scheduler.offer(orders.operations);
        let now = Instant::now();
        while let Some(flight) = scheduler.launch(now) {
            flights.spawn(fly(Arc::clone(&client), flight));
        }
        outages.note(scheduler.unavailable(), now);
        traffic.set_targets(client.targets(now));
        exchange.publish(&mut scheduler, &mut traffic, now);
        let next_launch = scheduler.next_launch(now);
        let wake_at = tokio::time::Instant::from_std(next_launch.unwrap_or(now));
        tokio::select! {
            () = exchange.orders_arrived() => {}
            Some(landed) = flights.join_next() => {
                let (flight, trip) = landed?;
                traffic.add(SinkMetric::RequestBytes, "raw", trip.raw_bytes);
                traffic.add(SinkMetric::RequestBytes, "sent", trip.sent_bytes);
                traffic.observe(trip.duration);
                scheduler.land(flight, trip.outcome, Instant::now());
            }
            () = tokio::time::sleep_until(wake_at), if next_launch.is_some() => {}
        }
    }
}

async fn fly(client: Arc<Client>, flight: Flight) -> (Flight, Trip) {
    let trip = client.send(&flight).await;
    (flight, trip)
}

/// Says when the target takes nothing and when it does again, but not each of a thousand failures.
struct OutageLog {
    context: Context,
    warned_at: Option<Instant>,
    /// The last word was a warning.
    warned: bool,
}

impl OutageLog {
    fn note(&mut self, unavailable: Option<&str>, now: Instant) {
        let silent = self
            .warned_at
            .is_some_and(|at| now.duration_since(at) < LOG_INTERVAL);
        match unavailable {
            Some(_) if silent => {}
            Some(reason) => {
                self.context.warn(format!(
                    "Elasticsearch takes no documents now, trying again: {reason}"
                ));
                (self.warned_at, self.warned) = (Some(now), true);
            }
            None if self.warned => {
                self.context.info("Elasticsearch takes documents again");
                self.warned = false;
            }
            None => {}
        }
    }
}
