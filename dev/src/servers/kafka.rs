//! A real one-node Kafka (KRaft) on loopback.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::proxy::Proxy;

use super::guarded::Guarded;
use super::java::Java;
use super::maven;
use super::ports::free_ports;
use super::run_dir::RunDir;

/// A broker answers in about 4 s; shared cores under a full build have taken ten times that.
const START_TIMEOUT_S: u64 = 120;
/// A controlled shutdown of one idle node takes about a second.
const STOP_TIMEOUT_S: u64 = 60;
/// Another process can take a port between our look and the broker's bind.
const PORT_ATTEMPTS: usize = 5;

/// A broker and controller in one process; ends with this value.
#[derive(Debug)]
pub struct KafkaServer {
    process: Option<Guarded>,
    dir: RunDir,
    java: Java,
    libs: PathBuf,
    port: u16,
    detour: Option<Detour>,
}

/// A listener of its own for clients that are to reach the broker through a proxy only.
#[derive(Debug, Clone, Copy)]
struct Detour {
    port: u16,
    /// What the broker tells these clients to connect to.
    advertised_port: u16,
}

impl KafkaServer {
    /// Fetches Kafka if need be, formats a log folder and waits until the broker answers.
    ///
    /// Topics have 2 partitions and LogAppendTime unless they say otherwise.
    pub fn start() -> Result<KafkaServer> {
        let mut server = KafkaServer::prepare()?;
        server.start_on_free_ports()?;
        Ok(server)
    }

    /// The same with a second listener whose clients are sent through the proxy, whatever they ask the broker.
    ///
    /// # Errors
    /// As [`KafkaServer::start`], or no port is free for the proxy.
    pub fn start_behind_proxy() -> Result<(KafkaServer, Proxy)> {
        let [port] = free_ports()?;
        let proxy = Proxy::to(port)?;
        let mut server = KafkaServer::prepare()?;
        server.detour = Some(Detour {
            port,
            advertised_port: proxy.port(),
        });
        server.start_on_free_ports()?;
        Ok((server, proxy))
    }

    /// A server that is not running yet, on a port that is already known: for a client that must
    /// be there before its broker. [`KafkaServer::restart`] brings it up.
    pub fn start_later() -> Result<KafkaServer> {
        let mut server = KafkaServer::prepare()?;
        let [port, controller_port] = free_ports()?;
        server.port = port;
        server.format(controller_port)?;
        Ok(server)
    }

    /// `127.0.0.1:PORT`, the same over restarts.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::id)
    }

    /// Shuts down in order (SIGTERM).
    pub fn stop(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.stop(Duration::from_secs(STOP_TIMEOUT_S))?;
        }
        Ok(())
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts again after [`stop`](KafkaServer::stop) or [`kill`](KafkaServer::kill): same port, same data.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.run().map_err(|error| self.keep_log(error))
    }

    /// The process, for a caller that waits on it.
    pub fn process_mut(&mut self) -> Option<&mut Guarded> {
        self.process.as_mut()
    }

    fn prepare() -> Result<KafkaServer> {
        Ok(KafkaServer {
            process: None,
            java: Java::find()?,
            libs: maven::kafka_libs()?,
            dir: RunDir::new("kafka")?,
            port: 0,
            detour: None,
        })
    }

    fn start_on_free_ports(&mut self) -> Result<()> {
        for _ in 0..PORT_ATTEMPTS {
            let [port, controller_port] = free_ports()?;
            self.port = port;
            self.format(controller_port)?;
            match self.run() {
                Ok(()) => return Ok(()),
                Err(_) if self.ports_clashed() => {
                    self.process = None;
                    fs::remove_file(self.dir.log_path())?;
                    fs::remove_dir_all(self.dir.path().join("data"))?;
                }
                Err(error) => return Err(self.keep_log(error)),
            }
        }
        bail!("no free ports for Kafka after {PORT_ATTEMPTS} attempts")
    }

    fn format(&self, controller_port: u16) -> Result<()> {
        let properties = self.properties_path();
        fs::write(&properties, self.properties(controller_port))?;
        // Any 16 bytes in URL-safe base64; one cluster never meets another here.
        let cluster_id = "d2Vpci1kZXYtY2x1c3Rlcg";
        let output = Command::new(self.java.program())
            .arg("-cp")
            .arg(self.class_path())
            .args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"])
            .arg(&properties)
            .output()?;
        if !output.status.success() {
            bail!(
                "Kafka's storage tool failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Transactions that are open too long are looked for every 5 s (the default is 10 s), and never sooner after a start:
    /// Kafka 4.3.1 takes a topic whose leader it has not learnt yet for deleted and skips the abort marker, so that the
    /// producer's next commit makes the aborted records visible.
    fn properties(&self, controller_port: u16) -> String {
        let port = self.port;
        let (mut listener, mut advertised, mut protocol) = <(String, String, &str)>::default();
        if let Some(detour) = self.detour {
            listener = format!(",PROXIED://127.0.0.1:{}", detour.port);
            advertised = format!(",PROXIED://127.0.0.1:{}", detour.advertised_port);
            protocol = ",PROXIED:PLAINTEXT";
        }
        let data = self.dir.path().join("data");
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listener}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocol}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             num.partitions=2\n\
             log.message.timestamp.type=LogAppendTime\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             transaction.abort.timed.out.transaction.cleanup.interval.ms=5000\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            data.display()
        )
    }

    fn properties_path(&self) -> PathBuf {
        self.dir.path().join("server.properties")
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.libs.display())
    }

    fn run(&mut self) -> Result<()> {
        let log = self.dir.open_log()?;
        let errors = log.try_clone()?;
        let arguments = ["-Xmx1g".to_owned(), "-cp".to_owned(), self.class_path()];
        let properties = self.properties_path();
        let process = Guarded::spawn(self.java.program(), |command| {
            command
                .args(arguments)
                .arg("kafka.Kafka")
                .arg(properties)
                .stdout(Stdio::from(log))
                .stderr(Stdio::from(errors));
        })
        .context("cannot start Kafka")?;
        self.process = Some(process);
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            // The default of 10 s between attempts would be most of the start.
            .set("reconnect.backoff.max.ms", "200")
            .create()?;
        let deadline = Instant::now() + Duration::from_secs(START_TIMEOUT_S);
        while Instant::now() < deadline {
            let process = self.process.as_mut().context("Kafka was not started")?;
            if let Some(status) = process.try_wait()? {
                bail!("Kafka ended while starting ({status})");
            }
            // The list is empty until the controller has let the broker in.
            match client.fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("Kafka does not answer after {START_TIMEOUT_S} s")
    }

    fn ports_clashed(&self) -> bool {
        self.dir.log_tail(200).contains("Address already in use")
    }

    fn keep_log(&mut self, error: anyhow::Error) -> anyhow::Error {
        let tail = self.dir.log_tail(20);
        let folder = self.dir.keep().display().to_string();
        error.context(format!("the log of Kafka is kept in {folder}:\n{tail}"))
    }
}
