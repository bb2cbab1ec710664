//! Free loopback ports for servers that want to be told theirs.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

/// Below Linux's default range of ephemeral ports (32768 and up): a client's outgoing connection
/// can then not take the port of a server that is down for a restart.
const FIRST_PORT: u16 = 20_000;
const PORT_COUNT: u16 = 12_000;

/// `N` different ports that were free a moment ago. Another process can still win the race, so a
/// caller retries with new ones when its server reports a clash.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    let start = starting_point();
    for step in 0..PORT_COUNT {
        if listeners.len() == N {
            return Ok(ports);
        }
        let port = FIRST_PORT + (start + step) % PORT_COUNT;
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
            continue;
        };
        if let Some(slot) = ports.get_mut(listeners.len()) {
            *slot = port;
        }
        // Held until all are found, so that one call never names a port twice.
        listeners.push(listener);
    }
    bail!(
        "no {N} free loopback ports between {FIRST_PORT} and {}",
        FIRST_PORT + PORT_COUNT
    )
}

/// Spreads processes that start at the same time over the range.
fn starting_point() -> u16 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.subsec_nanos());
    let mixed = nanos.wrapping_mul(2_654_435_761) ^ process::id().wrapping_mul(40_503);
    u16::try_from(mixed % u32::from(PORT_COUNT)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_below_the_ephemeral_range() {
        let ports = free_ports::<16>().expect("sixteen ports");
        let mut sorted = ports.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 16);
        assert!(ports.iter().all(|p| (20_000..32_000).contains(p)));
    }
}
