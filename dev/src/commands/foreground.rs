//! One real server in the foreground, for work by hand.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer, Guarded, KafkaServer};

use super::signals::Signals;

#[derive(Debug, Args)]
pub struct ElasticsearchArguments {
    /// Turns security on, with this password for the user `elastic`.
    #[arg(long)]
    password: Option<String>,
}

pub fn kafka() -> Result<ExitCode> {
    let signals = Signals::catch()?;
    let mut server = KafkaServer::start()?;
    println!("{}", server.bootstrap());
    wait_for_the_end(server.process_mut(), &signals)?;
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}

pub fn elasticsearch(arguments: ElasticsearchArguments) -> Result<ExitCode> {
    let signals = Signals::catch()?;
    let mut server = ElasticsearchServer::start(ElasticsearchOptions {
        password: arguments.password,
        ..ElasticsearchOptions::default()
    })?;
    println!("{}", server.url());
    wait_for_the_end(server.process_mut(), &signals)?;
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns at the first signal; an error if the server ends before. A signal during the start waits
/// for its end, so that no data folder is left behind.
fn wait_for_the_end(process: Option<&mut Guarded>, signals: &Signals) -> Result<()> {
    let Some(process) = process else {
        return Ok(());
    };
    while signals.take().is_none() {
        if let Some(status) = process.try_wait()? {
            bail!("the server ended by itself ({status})");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
