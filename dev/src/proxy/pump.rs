//! The two directions of one connection, a thread each.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, PoisonError};
use std::thread;

use super::{Path, Shared};

/// The largest piece that is forwarded at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Starts both directions.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    id: u64,
    client: TcpStream,
    server: TcpStream,
) -> io::Result<()> {
    let there = (client.try_clone()?, server.try_clone()?);
    for (from, to) in [there, (server, client)] {
        let shared = Arc::clone(shared);
        thread::Builder::new()
            .name("proxy-pump".to_owned())
            .spawn(move || {
                // An error is the end of the connection, as its end is.
                let _ = shared.forward(id, &from, &to);
                shared.close(id);
            })?;
    }
    Ok(())
}

impl Shared {
    fn forward(&self, id: u64, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            // Before reading, so that a silent path fills the sender's window as a real one does.
            if !self.pass(id) {
                return Ok(());
            }
            let length = from.read(&mut piece)?;
            // Again, because the path may have changed while nothing came.
            if length == 0 || !self.pass(id) {
                return Ok(());
            }
            to.write_all(piece.get(..length).unwrap_or_default())?;
        }
    }

    /// Waits as the path demands; false when the connection is over.
    fn pass(&self, id: u64) -> bool {
        let mut state = self.lock();
        while state.path == Path::Silent && state.connections.contains_key(&id) {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if let Path::Slow(delay) = state.path {
            drop(state);
            thread::sleep(delay);
            state = self.lock();
        }
        state.connections.contains_key(&id)
    }

    fn close(&self, id: u64) {
        if let Some((client, server)) = self.lock().connections.remove(&id) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }
}
