//! Which port is taken.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::str::FromStr;

use thiserror::Error;

/// Where a host listens if nothing says otherwise: Kafka Connect's port, on loopback because nothing here asks who
/// is there.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8083));

/// Ports tried after the default one: more hosts than anybody starts on one machine by hand.
pub const MAX_NEXT_PORTS: u16 = 100;

/// What the topology file and the command line say about HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listen {
    /// Nothing: [`DEFAULT_ADDRESS`] or the next free port.
    #[default]
    Unset,
    /// No HTTP.
    Off,
    /// This address and no other; port 0 takes a free port.
    Address(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Listen::Off);
        }
        let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
        numeric.parse().map(Listen::Address).map_err(|_| {
            "give an IP address and a port, such as 127.0.0.1:8083, 0.0.0.0:8083 or [::1]:8083, or off".to_owned()
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Unset => write!(formatter, "unset"),
            Listen::Off => write!(formatter, "off"),
            Listen::Address(address) => write!(formatter, "{address}"),
        }
    }
}

/// Why HTTP cannot be served. The host refuses to start with exit code 2.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The set port belongs to another process.
    #[error(
        "the HTTP address {address} is taken by another process; choose another port under http.listen or --http, or `off`"
    )]
    AddressInUse {
        /// The address that was set.
        address: SocketAddr,
    },
    /// The default port and all that follow are taken.
    #[error(
        "every port from {first} to {last} of 127.0.0.1 is taken; set one under http.listen or --http, or `off`"
    )]
    NoFreePort {
        /// The first port that was tried.
        first: u16,
        /// The last one.
        last: u16,
    },
    /// The operating system refuses the address.
    #[error(
        "the HTTP address {address} cannot be listened on: {source}; set one of this machine's addresses under http.listen or --http"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The operating system gives no thread or no event queue.
    #[error(
        "the HTTP server cannot start: {0}; free threads or file descriptors of this machine, or set --http off"
    )]
    Start(io::Error),
}

impl HttpError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            HttpError::AddressInUse { .. } => "http.address_in_use",
            HttpError::NoFreePort { .. } => "http.no_free_port",
            HttpError::Bind { .. } => "http.address_refused",
            HttpError::Start(_) => "http.start",
        }
    }
}

/// A port that is taken and does not answer yet.
#[derive(Debug)]
pub struct BoundListener {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl BoundListener {
    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Takes the port; `None` for [`Listen::Off`].
///
/// # Errors
/// A set address that is taken or refused, or no free port from the default one on.
pub fn bind(listen: Listen) -> Result<Option<BoundListener>, HttpError> {
    match listen {
        Listen::Off => Ok(None),
        Listen::Address(address) => bind_to(address).map(Some),
        Listen::Unset => bind_from(DEFAULT_ADDRESS, MAX_NEXT_PORTS).map(Some),
    }
}

fn bind_from(first: SocketAddr, next_ports: u16) -> Result<BoundListener, HttpError> {
    let last = first.port().saturating_add(next_ports);
    for port in first.port()..=last {
        match bind_to(SocketAddr::new(first.ip(), port)) {
            Err(HttpError::AddressInUse { .. }) => {}
            answer => return answer,
        }
    }
    Err(HttpError::NoFreePort {
        first: first.port(),
        last,
    })
}

fn bind_to(address: SocketAddr) -> Result<BoundListener, HttpError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(BoundListener { listener, address })
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => HttpError::AddressInUse { address },
        _ => HttpError::Bind { address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    #[test]
    fn a_set_port_that_is_taken_is_refused() {
        let taken = bind_to(loopback(0)).expect("a free port");
        let error = bind(Listen::Address(taken.address())).expect_err("taken");
        assert_eq!(error.code(), "http.address_in_use");
        assert!(error.to_string().contains(&taken.address().to_string()));
    }

    #[test]
    fn an_unset_port_that_is_taken_gives_the_next_free_one() {
        let taken = bind_to(loopback(0)).expect("a free port");
        let next = bind_from(taken.address(), MAX_NEXT_PORTS).expect("a free one of 100");
        assert!(next.address().port() > taken.address().port());
        let error = bind_from(taken.address(), 0).expect_err("nothing else to try");
        assert_eq!(error.code(), "http.no_free_port");
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        // 192.0.2.0/24 is reserved for documentation, so no machine has it.
        let error = bind(Listen::Address(([192, 0, 2, 1], 0).into())).expect_err("not ours");
        assert_eq!(error.code(), "http.address_refused");
    }

    #[test]
    fn off_takes_no_port() {
        assert!(bind(Listen::Off).expect("nothing to fail").is_none());
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert_eq!("localhost:80".parse(), Ok(Listen::Address(loopback(80))));
        let v6: Listen = "[::1]:8083".parse().expect("legal");
        assert_eq!(v6.to_string(), "[::1]:8083");
        for text in [
            "",
            "8083",
            "127.0.0.1",
            "example.com:80",
            "OFF",
            "127.0.0.1:99999",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
