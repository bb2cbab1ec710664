use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::ring as ring_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::Authority;
use crate::relay::listen;

/// Takes plain connections and passes what they carry to a TLS server of this authority, for a client that speaks none.
/// Answers the port.
pub fn bridge(target: SocketAddr, authority: &Authority) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).expect("a root");
    let provider = Arc::new(ring_provider::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    listen(move |stream| forward(connector.clone(), stream, target))
}

/// A connection that fails is the client's affair.
async fn forward(connector: TlsConnector, mut client: TcpStream, target: SocketAddr) {
    let name = ServerName::from(target.ip());
    let Ok(stream) = TcpStream::connect(target).await else {
        return;
    };
    if let Ok(mut server) = connector.connect(name, stream).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
