//! A real one-node Elasticsearch or OpenSearch on loopback.
//!
//! The build of Elasticsearch is the stripped one that Elastic publishes for its own integration tests: real bulk,
//! versions, searches and security, but 405 on `GET /`, no ingest, no painless, and no API keys
//! (their index needs a filter that the build lacks).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guarded::Guarded;
use super::java::Java;
use super::maven;
use super::ports::free_ports;
use super::run_dir::RunDir;

/// It answers in about 12 s; shared cores under a full build have taken far longer.
const START_TIMEOUT_S: u64 = 240;
const STOP_TIMEOUT_S: u64 = 60;
const PORT_ATTEMPTS: usize = 5;
/// Elasticsearch refuses to run as root. The conventional ids of `nobody`, which need no entry in
/// the user database to work.
const UNPRIVILEGED_ID: u32 = 65_534;

/// Whose server it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SearchProduct {
    #[default]
    Elasticsearch,
    /// Without security: this build has none.
    OpenSearch,
}

impl SearchProduct {
    /// As its files are called.
    fn name(self) -> &'static str {
        match self {
            SearchProduct::Elasticsearch => "elasticsearch",
            SearchProduct::OpenSearch => "opensearch",
        }
    }

    fn version(self) -> &'static str {
        match self {
            SearchProduct::Elasticsearch => maven::ELASTICSEARCH_VERSION,
            SearchProduct::OpenSearch => maven::OPENSEARCH_VERSION,
        }
    }

    /// What its variables begin with.
    fn prefix(self) -> &'static str {
        match self {
            SearchProduct::Elasticsearch => "ES",
            SearchProduct::OpenSearch => "OPENSEARCH",
        }
    }
}

/// How to start it.
#[derive(Debug, Clone, Default)]
pub struct ElasticsearchOptions {
    pub product: SearchProduct,
    /// Turns security on, with this password for the user `elastic`.
    pub password: Option<String>,
    /// Speaks TLS on the HTTP port; needs `password`.
    pub tls: Option<TlsFiles>,
    /// Files of its `config` folder by name, such as users and roles.
    pub config_files: Vec<(&'static str, String)>,
}

/// PEM texts of the HTTP port's TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, for 127.0.0.1.
    pub certificate: String,
    pub key: String,
    /// What signed it; also whose client certificates are taken, where one is shown.
    pub authority: String,
}

/// A single node; ends with this value.
#[derive(Debug)]
pub struct ElasticsearchServer {
    process: Option<Guarded>,
    dir: RunDir,
    java: Java,
    options: ElasticsearchOptions,
    /// The user to drop to, where this process is root.
    drop_to: Option<u32>,
    port: u16,
    transport_port: u16,
}

impl ElasticsearchServer {
    /// Fetches Elasticsearch if need be, unpacks it and waits until it answers searches.
    pub fn start(options: ElasticsearchOptions) -> Result<ElasticsearchServer> {
        let mut server = ElasticsearchServer::prepare(options)?;
        for _ in 0..PORT_ATTEMPTS {
            [server.port, server.transport_port] = free_ports()?;
            match server.run() {
                Ok(()) => return Ok(server),
                Err(_) if server.ports_clashed() => {
                    server.kill();
                    fs::remove_file(server.dir.log_path())?;
                }
                Err(error) => return Err(server.keep_log(error)),
            }
        }
        bail!("no free ports for Elasticsearch after {PORT_ATTEMPTS} attempts")
    }

    /// A server that is not running yet, on a port that is already known.
    /// [`ElasticsearchServer::restart`] brings it up.
    pub fn start_later(options: ElasticsearchOptions) -> Result<ElasticsearchServer> {
        let mut server = ElasticsearchServer::prepare(options)?;
        [server.port, server.transport_port] = free_ports()?;
        Ok(server)
    }

    /// `http://127.0.0.1:PORT`, or `https://...`, the same over restarts.
    pub fn url(&self) -> String {
        let scheme = match self.options.tls {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The port of HTTP, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
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

    /// Starts again: same port, same data.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.run().map_err(|error| self.keep_log(error))
    }

    /// The process, for a caller that waits on it.
    pub fn process_mut(&mut self) -> Option<&mut Guarded> {
        self.process.as_mut()
    }

    fn prepare(options: ElasticsearchOptions) -> Result<ElasticsearchServer> {
        let java = Java::find()?;
        let product = options.product;
        let zip = maven::search_zip(product.name(), product.version())?;
        let dir = RunDir::new(product.name())?;
        unpack(&zip, dir.path())?;
        let is_root = rustix::process::geteuid().is_root();
        let server = ElasticsearchServer {
            process: None,
            drop_to: is_root.then_some(UNPRIVILEGED_ID),
            dir,
            java,
            options,
            port: 0,
            transport_port: 0,
        };
        let config = server.home().join("config");
        for (name, content) in &server.options.config_files {
            fs::write(config.join(name), content)?;
        }
        if let Some(tls) = &server.options.tls {
            fs::write(config.join("http.crt"), &tls.certificate)?;
            fs::write(config.join("http.key"), &tls.key)?;
            fs::write(config.join("ca.crt"), &tls.authority)?;
        }
        if let Some(id) = server.drop_to {
            give_to(server.dir.path(), id)?;
        }
        if let Some(password) = &server.options.password {
            server.keystore(&["create"], "")?;
            server.keystore(&["add", "-x", "bootstrap.password"], password)?;
        }
        Ok(server)
    }

    fn home(&self) -> PathBuf {
        let product = self.options.product;
        let home = format!("{}-{}", product.name(), product.version());
        self.dir.path().join(home)
    }

    /// What every program of the distribution needs: the runtime, the user, no foreign settings.
    fn set_up(&self, command: &mut Command) {
        let prefix = self.options.product.prefix();
        command
            .env(format!("{prefix}_JAVA_HOME"), &self.java.home)
            .env(format!("{prefix}_JAVA_OPTS"), "-Xms512m -Xmx512m")
            .env("HOME", self.dir.path())
            .env_remove("JAVA_HOME")
            .env_remove(format!("{prefix}_PATH_CONF"))
            .current_dir(self.dir.path());
        if let Some(id) = self.drop_to {
            command.uid(id).gid(id);
        }
    }

    fn keystore(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = Command::new(self.home().join("bin/elasticsearch-keystore"));
        self.set_up(&mut command);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "elasticsearch-keystore failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    fn settings(&self) -> Vec<String> {
        let security = self.options.password.is_some();
        let is_elasticsearch = self.options.product == SearchProduct::Elasticsearch;
        [
            "discovery.type=single-node".to_owned(),
            // A nearly full disk of a developer must not make indexes read-only.
            "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
            "network.host=127.0.0.1".to_owned(),
            format!("http.port={}", self.port),
            format!("transport.port={}", self.transport_port),
        ]
        .into_iter()
        .chain(is_elasticsearch.then(|| format!("xpack.security.enabled={security}")))
        .chain(security.then(|| {
            let tls = self.options.tls.is_some();
            format!("xpack.security.http.ssl.enabled={tls}")
        }))
        .chain(self.options.tls.iter().flat_map(|_| {
            [
                "certificate=http.crt",
                "key=http.key",
                "certificate_authorities=ca.crt",
                "client_authentication=optional",
            ]
            .map(|setting| format!("xpack.security.http.ssl.{setting}"))
        }))
        .collect()
    }

    fn run(&mut self) -> Result<()> {
        if self.options.tls.is_some() {
            // Its log says when it is up, so an older run must not.
            let _ = fs::remove_file(self.dir.log_path());
        }
        let log = self.dir.open_log()?;
        let errors = log.try_clone()?;
        let name = self.options.product.name();
        let process = Guarded::spawn(self.home().join("bin").join(name), |command| {
            for setting in self.settings() {
                command.arg("-E").arg(setting);
            }
            command.stdout(Stdio::from(log)).stderr(Stdio::from(errors));
            self.set_up(command);
        })
        .with_context(|| format!("cannot start {name}"))?;
        self.process = Some(process);
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .proxy(None)
            .build()
            .into();
        let user_info = self
            .options
            .password
            .as_ref()
            .map_or(String::new(), |password| format!("elastic:{password}@"));
        let url = format!(
            "http://{user_info}127.0.0.1:{}/_cluster/health?wait_for_status=yellow&timeout=1s",
            self.port
        );
        let deadline = Instant::now() + Duration::from_secs(START_TIMEOUT_S);
        while Instant::now() < deadline {
            let process = self
                .process
                .as_mut()
                .context("Elasticsearch was not started")?;
            if let Some(status) = process.try_wait()? {
                bail!("Elasticsearch ended while starting ({status})");
            }
            // The client here speaks no TLS; what the server says of itself in its log has to do then.
            let is_up = match self.options.tls {
                Some(_) => self.dir.log_tail(400).contains("] started {"),
                None => agent.get(&url).call().is_ok(),
            };
            if is_up {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("Elasticsearch does not answer after {START_TIMEOUT_S} s")
    }

    fn ports_clashed(&self) -> bool {
        let tail = self.dir.log_tail(200);
        tail.contains("BindHttpException") || tail.contains("BindTransportException")
    }

    fn keep_log(&mut self, error: anyhow::Error) -> anyhow::Error {
        let tail = self.dir.log_tail(20);
        let folder = self.dir.keep().display().to_string();
        error.context(format!(
            "the log of Elasticsearch is kept in {folder}:\n{tail}"
        ))
    }
}

/// Extracts `zip` below `target`, with the executable bits. The reader checks every CRC.
fn unpack(zip: &Path, target: &Path) -> Result<()> {
    let file = File::open(zip).with_context(|| format!("cannot open {}", zip.display()))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file))
        .with_context(|| format!("{} is damaged; remove it", zip.display()))?;
    archive
        .extract(target)
        .with_context(|| format!("cannot unpack {}", zip.display()))
}

/// Makes `id` the owner of everything below `path`.
fn give_to(path: &Path, id: u32) -> Result<()> {
    chown(path, Some(id), Some(id))
        .with_context(|| format!("cannot give {} to user {id}", path.display()))?;
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(());
    }
    let mode = metadata.mode() | 0o700;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    for entry in fs::read_dir(path)? {
        give_to(&entry?.path(), id)?;
    }
    Ok(())
}
