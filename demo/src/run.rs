//! The demo from its start to its drain.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use weir_document_store::{DocumentStore, Settings};

use crate::error::DemoError;
use crate::host::{Host, HostLog};
use crate::observe::{Counts, Observer};
use crate::produce::{Deliveries, Generator};
use crate::readiness::{Readiness, ReadinessReader};
use crate::screen::Screen;
use crate::view::{self, Places, Rates, Snapshot};
use crate::visits::{OPEN_VISITS, Visits};
use crate::windows::{WindowReader, Windows};
use crate::{duration, topics};

/// Visits a second where nothing is slowed down: 200 make 12,000 a window and 5 MB a minute, half of what the mock
/// keeps.
const RATE_DEFAULT: f64 = 200.0;
/// Share of what a delayed pipeline can do (one record per delay) that is asked of it, so that it keeps up.
const DELAYED_LOAD: f64 = 0.8;
/// How often the screen is renewed.
const TICK: Duration = Duration::from_millis(250);

/// What the command line and the environment ask for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `weir` program.
    pub weir: PathBuf,
    pub topology: PathBuf,
    /// A real broker; `None` embeds one.
    pub bootstrap: Option<String>,
    /// A real Elasticsearch; `None` embeds a document store.
    pub elasticsearch: Option<String>,
    /// Such as `10s`.
    pub processing_delay: String,
    /// Visits a second; `None` fits it to the delay.
    pub rate: Option<f64>,
    pub seed: u64,
    /// End after so many closed windows.
    pub windows: Option<usize>,
    /// With `windows`: fail if they have not closed by then.
    pub deadline: Option<Duration>,
    /// Lines even on a terminal.
    pub plain: bool,
}

/// The servers of this run; embedded ones end with it.
struct Servers {
    bootstrap: String,
    elasticsearch: String,
    embedded_broker: Option<MockCluster<'static, DefaultProducerContext>>,
    embedded_store: Option<DocumentStore>,
}

/// What the threads write and the screen reads.
#[derive(Default)]
struct Live {
    deliveries: Arc<Deliveries>,
    counts: Arc<Mutex<Counts>>,
    windows: Arc<Mutex<Windows>>,
    log: Arc<Mutex<HostLog>>,
    readiness: Arc<Mutex<BTreeMap<String, Readiness>>>,
}

/// Why the demo ends.
enum End {
    Interrupted,
    WindowsClosed,
}

/// Runs the demo until `interrupted`, or until the wanted windows closed, and drains it.
pub fn run(options: &Options, interrupted: &Arc<AtomicBool>) -> Result<(), DemoError> {
    let processing_delay = duration::parse(&options.processing_delay)?;
    let rate = options
        .rate
        .unwrap_or_else(|| fitting_rate(processing_delay));
    let directory = tempfile::Builder::new()
        .prefix("weir-demo-")
        .tempdir()
        .map_err(|cause| DemoError::Io {
            what: "no folder for the log can be made",
            cause,
        })?;
    let ended = run_logging_to(directory.path(), options, rate, interrupted);
    if ended.is_err() {
        let _kept = directory.keep();
    }
    ended
}

fn run_logging_to(
    directory: &Path,
    options: &Options,
    rate: f64,
    interrupted: &AtomicBool,
) -> Result<(), DemoError> {
    let servers = Servers::start(options)?;
    let places = Places {
        bootstrap: servers.bootstrap.clone(),
        embedded_broker: servers.embedded_broker.is_some(),
        elasticsearch: servers.elasticsearch.clone(),
        embedded_store: servers.embedded_store.is_some(),
        processing_delay: options.processing_delay.clone(),
        rate,
        seed: options.seed,
        log_path: directory.join("weir-up.log"),
    };
    let mut screen = Screen::new(options.plain);
    for line in view::opening(&places) {
        screen.line(&line).map_err(screen_failed)?;
    }
    let live = Live::default();
    let mut host = Host::start(
        &options.weir,
        &options.topology,
        &servers.environment(options),
        places.log_path.clone(),
        &live.log,
    )?;
    let threads = Threads::start(&servers, &live, rate, options.seed)?;
    let end = watch(options, interrupted, &places, &live, &mut host, &mut screen);
    screen
        .line("Draining: the generator stops, then the hosts finish what they have.")
        .map_err(screen_failed)?;
    // The readers go on: they see what the drain brings.
    let _readers = threads.stop_generator()?;
    let drained = host.drain()?;
    show_new(&live, &mut screen)?;
    for line in closing(&end, &live) {
        screen.line(&line).map_err(screen_failed)?;
    }
    end?;
    if drained.success() {
        Ok(())
    } else {
        Err(DemoError::HostDrain {
            status: drained.to_string(),
            log: places.log_path,
        })
    }
}

/// One record at a time takes the delay; without one the default is far below what the pipelines can do.
fn fitting_rate(processing_delay: Duration) -> f64 {
    if processing_delay.is_zero() {
        return RATE_DEFAULT;
    }
    (DELAYED_LOAD / processing_delay.as_secs_f64()).min(RATE_DEFAULT)
}

impl Servers {
    fn start(options: &Options) -> Result<Self, DemoError> {
        let (bootstrap, embedded_broker) = match &options.bootstrap {
            Some(bootstrap) => {
                topics::create_on_broker(bootstrap)?;
                (bootstrap.clone(), None)
            }
            None => {
                let cluster = MockCluster::new(1).map_err(|cause| DemoError::Broker { cause })?;
                topics::create_in_mock(&cluster)?;
                (cluster.bootstrap_servers(), Some(cluster))
            }
        };
        let (elasticsearch, embedded_store) = match &options.elasticsearch {
            Some(url) => (url.clone(), None),
            None => {
                let settings = Settings {
                    // The demo looks at documents, not at requests.
                    observed_bulks_max: 0,
                    ..Settings::default()
                };
                let store = DocumentStore::start(settings)?;
                (store.url(), Some(store))
            }
        };
        Ok(Self {
            bootstrap,
            elasticsearch,
            embedded_broker,
            embedded_store,
        })
    }

    /// The variables that connectors.yaml names.
    fn environment(&self, options: &Options) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("KAFKA_BOOTSTRAP", self.bootstrap.clone()),
            ("ELASTICSEARCH_URL", self.elasticsearch.clone()),
            ("PROCESSING_DELAY", options.processing_delay.clone()),
        ];
        if self.embedded_broker.is_some() {
            environment.push(("WEIR_DELIVERY", "at_least_once".to_owned()));
        }
        environment
    }
}

/// The threads beside the screen. They end when this is dropped.
struct Threads {
    stop: Arc<AtomicBool>,
    stop_generator: Arc<AtomicBool>,
    generator: Option<JoinHandle<Result<(), DemoError>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(servers: &Servers, live: &Live, rate: f64, seed: u64) -> Result<Self, DemoError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stop_generator = Arc::new(AtomicBool::new(false));
        let observer = Observer::new(&servers.bootstrap, Arc::clone(&live.counts))?;
        let from = Timestamp::from_second(Timestamp::now().as_second() / 60 * 60)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let windows = WindowReader::new(&servers.elasticsearch, from, Arc::clone(&live.windows));
        let readiness = ReadinessReader::new(Arc::clone(&live.log), Arc::clone(&live.readiness));
        let mut generator = Generator::new(
            &servers.bootstrap,
            topics::VISITS,
            rate,
            Visits::new(seed, OPEN_VISITS),
            Arc::clone(&live.deliveries),
        )?;
        let stops = [&stop; 3].map(Arc::clone);
        let [a, b, c] = stops;
        let readers = vec![
            std::thread::spawn(move || observer.run(&a)),
            std::thread::spawn(move || windows.run(&b)),
            std::thread::spawn(move || readiness.run(&c)),
        ];
        let generating = Arc::clone(&stop_generator);
        Ok(Self {
            stop,
            stop_generator,
            generator: Some(std::thread::spawn(move || generator.run(&generating))),
            readers,
        })
    }

    /// Ends the stream of visits; its last rows are acknowledged then. The readers go on.
    fn stop_generator(mut self) -> Result<Self, DemoError> {
        self.stop_generator.store(true, Ordering::Relaxed);
        match self.generator.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome.map(|()| self),
            // A generator that panicked has said so on stderr.
            Some(Err(_)) | None => Ok(self),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop_generator.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        if let Some(generator) = self.generator.take() {
            let _ = generator.join();
        }
        for reader in self.readers.drain(..) {
            reader.thread().unpark();
            let _ = reader.join();
        }
    }
}

/// Shows what happens until there is a reason to end.
fn watch(
    options: &Options,
    interrupted: &AtomicBool,
    places: &Places,
    live: &Live,
    host: &mut Host,
    screen: &mut Screen,
) -> Result<End, DemoError> {
    let started_at = Instant::now();
    let mut rates = Rates::default();
    loop {
        show_new(live, screen)?;
        let snapshot = snapshot(live, started_at.elapsed(), &mut rates);
        let width = screen.width();
        screen
            .status(
                || view::status_block(places, &snapshot, width),
                || view::status_line(&snapshot),
            )
            .map_err(screen_failed)?;
        if interrupted.load(Ordering::Relaxed) {
            return Ok(End::Interrupted);
        }
        let wanted = options.windows.unwrap_or(usize::MAX);
        if snapshot.windows_closed >= wanted {
            return Ok(End::WindowsClosed);
        }
        if let Some(status) = host.ended()? {
            return Err(DemoError::HostEnded {
                status: status.to_string(),
                log: host.log_path().to_owned(),
            });
        }
        if let Some(deadline) = options
            .deadline
            .filter(|limit| started_at.elapsed() > *limit)
        {
            return Err(DemoError::Deadline {
                closed: snapshot.windows_closed,
                wanted,
                deadline_s: deadline.as_secs(),
                log: host.log_path().to_owned(),
            });
        }
        std::thread::sleep(TICK);
    }
}

/// Windows that closed and complaints in the log since the last call.
fn show_new(live: &Live, screen: &mut Screen) -> Result<(), DemoError> {
    let color = screen.color();
    for complaint in locked(&live.log).take_complaints() {
        screen.line(&complaint).map_err(screen_failed)?;
    }
    for (window, arrival) in locked(&live.windows).take_unseen() {
        let line = view::window_line(&window, arrival, color);
        screen.line(&line).map_err(screen_failed)?;
    }
    Ok(())
}

fn snapshot(live: &Live, elapsed: Duration, rates: &mut Rates) -> Snapshot {
    let sent = live.deliveries.sent.load(Ordering::Relaxed);
    let counts = locked(&live.counts).clone();
    rates.sample(Instant::now(), [sent, counts.reduced, counts.dead_letters]);
    let (windows_closed, store_trouble) = {
        let windows = locked(&live.windows);
        (windows.closed, windows.trouble.clone())
    };
    let (http, pipelines) = {
        let log = locked(&live.log);
        (log.http.clone(), log.pipelines.clone())
    };
    Snapshot {
        elapsed,
        sent,
        failed: live.deliveries.failed.load(Ordering::Relaxed),
        counts,
        per_second: rates.per_second(),
        http,
        pipelines,
        readiness: locked(&live.readiness).clone(),
        windows_closed,
        store_trouble,
    }
}

fn closing(end: &Result<End, DemoError>, live: &Live) -> Vec<String> {
    let counts = locked(&live.counts).clone();
    let why = match end {
        Ok(End::Interrupted) => "Drained.",
        Ok(End::WindowsClosed) => "The wanted windows closed; drained.",
        Err(_) => "Ended early.",
    };
    let sent = live.deliveries.sent.load(Ordering::Relaxed);
    vec![format!(
        "{why} {sent} visits sent, {} reduced, {} dead letters, {} windows.",
        counts.reduced,
        counts.dead_letters,
        locked(&live.windows).closed
    )]
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn screen_failed(cause: io::Error) -> DemoError {
    DemoError::Io {
        what: "the output cannot be written",
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_fits_the_delay() {
        assert_eq!(fitting_rate(Duration::ZERO), 200.0);
        assert_eq!(fitting_rate(Duration::from_secs(10)), 0.08);
        assert_eq!(fitting_rate(Duration::from_millis(1)), 200.0);
    }
}
