use weir_plugin_api::{HostHandle, log_level};

/// Who the instance is, and its way to the host. Cheap to clone; usable from the plugin's own threads.
#[derive(Clone)]
pub struct Context {
    pub(crate) host: HostHandle,
    pub(crate) pipeline: String,
    pub(crate) node: String,
    pub(crate) task: u32,
}

impl Context {
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Name of the node in the topology file.
    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn task(&self) -> u32 {
        self.task
    }

    /// The host's wall clock, unix milliseconds; it stands still in golden tests.
    pub fn clock_ms(&self) -> i64 {
        self.host.clock_ms()
    }

    pub fn error(&self, message: impl AsRef<str>) {
        self.host.log(log_level::ERROR, message.as_ref());
    }

    pub fn warn(&self, message: impl AsRef<str>) {
        self.host.log(log_level::WARN, message.as_ref());
    }

    pub fn info(&self, message: impl AsRef<str>) {
        self.host.log(log_level::INFO, message.as_ref());
    }

    pub fn debug(&self, message: impl AsRef<str>) {
        self.host.log(log_level::DEBUG, message.as_ref());
    }
}
