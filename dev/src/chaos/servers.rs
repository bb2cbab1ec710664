//! The servers as targets.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::servers::{ElasticsearchServer, KafkaServer};

use super::journal::Journal;
use super::schedule::{Fault, Lane};
use super::stage::Target;

/// What both servers can do.
pub trait Server {
    fn crash(&mut self);
    fn stop(&mut self) -> Result<()>;
    fn start_again(&mut self) -> Result<()>;
}

impl Server for KafkaServer {
    fn crash(&mut self) {
        self.kill();
    }

    fn stop(&mut self) -> Result<()> {
        KafkaServer::stop(self)
    }

    fn start_again(&mut self) -> Result<()> {
        self.restart()
    }
}

impl Server for ElasticsearchServer {
    fn crash(&mut self) {
        self.kill();
    }

    fn stop(&mut self) -> Result<()> {
        ElasticsearchServer::stop(self)
    }

    fn start_again(&mut self) -> Result<()> {
        self.restart()
    }
}

pub struct ServerTarget<'a> {
    pub lane: Lane,
    pub server: &'a mut (dyn Server + Send),
}

impl Target for ServerTarget<'_> {
    fn take(&mut self, fault: Fault, journal: &Journal) -> Result<()> {
        let for_ms = match fault {
            Fault::Crash { for_ms } => {
                self.server.crash();
                for_ms
            }
            Fault::Restart { for_ms } => {
                if let Err(error) = self.server.stop() {
                    // It was killed instead: another fault, and no finding about the hosts.
                    journal.say(
                        self.lane.name(),
                        &format!("did not stop in order: {error:#}"),
                    );
                }
                for_ms
            }
            other => bail!("{other} is no fault of a server"),
        };
        // The length of the outage is the fault.
        thread::sleep(Duration::from_millis(for_ms));
        self.server.start_again()?;
        journal.say(self.lane.name(), "answers again");
        Ok(())
    }
}
