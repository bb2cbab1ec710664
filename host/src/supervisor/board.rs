//! What the HTTP side knows of the hosts.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One host as the HTTP side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostView {
    pub(super) pipeline: String,
    /// Where the host answers, or why it does not.
    pub(super) http: Result<SocketAddr, String>,
    /// Starts after the first one.
    pub(super) restarts: u64,
}

/// The state of every host, in the order of the pipelines.
#[derive(Debug)]
pub(super) struct Board(Mutex<Vec<HostView>>);

impl Board {
    pub(super) fn new(pipelines: &[String]) -> Self {
        let view = |pipeline: &String| HostView {
            pipeline: pipeline.clone(),
            http: Err("the host has not been started yet".to_owned()),
            restarts: 0,
        };
        Self(Mutex::new(pipelines.iter().map(view).collect()))
    }

    pub(super) fn views(&self) -> Vec<HostView> {
        self.lock().clone()
    }

    pub(super) fn set_started(&self, pipeline: &str, runs: u64) {
        self.change(pipeline, |view| {
            view.restarts = runs.saturating_sub(1);
            view.http = Err("the host is starting".to_owned());
        });
    }

    pub(super) fn set_listening(&self, pipeline: &str, http: SocketAddr) {
        self.change(pipeline, |view| view.http = Ok(http));
    }

    pub(super) fn set_down(&self, pipeline: &str, reason: String) {
        self.change(pipeline, |view| view.http = Err(reason));
    }

    fn change(&self, pipeline: &str, change: impl FnOnce(&mut HostView)) {
        if let Some(view) = self
            .lock()
            .iter_mut()
            .find(|view| view.pipeline == pipeline)
        {
            change(view);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HostView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
