//! TLS for tests: an authority made for one test, and what stands between a client and a server on loopback. Only tests
//! use it, so it panics where something is missing that every machine has.

mod authority;
mod bridge;
mod connect_proxy;
mod front;
mod relay;

pub use authority::{Authority, Identity};
pub use bridge::bridge;
pub use connect_proxy::ConnectProxy;
pub use front::TlsFront;
