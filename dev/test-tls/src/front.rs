use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::crypto::ring as ring_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Identity};
use crate::relay::listen;

/// Sessions that clients may resume.
const SESSIONS_MAX: usize = 32;

/// Takes TLS connections and passes what they carry to a server that speaks none.
pub struct TlsFront {
    pub port: u16,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    /// Outlive a change of what is shown, as they do in a server that loads a new certificate.
    sessions: Arc<dyn StoresServerSessions>,
}

impl TlsFront {
    /// Shows `identity` with its authority behind it. With `clients`, a client must show a certificate of that authority.
    pub fn start(
        target: SocketAddr,
        authority: &Authority,
        identity: &Identity,
        clients: Option<&Authority>,
    ) -> Self {
        let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(SESSIONS_MAX);
        let acceptor = acceptor(authority, identity, clients, &sessions);
        let acceptor = Arc::new(Mutex::new(acceptor));
        let shown = Arc::clone(&acceptor);
        let port = listen(move |stream| {
            let acceptor = shown.lock().expect("no panic").clone();
            forward(acceptor, stream, target)
        });
        TlsFront {
            port,
            acceptor,
            sessions,
        }
    }

    /// Connections from now on are shown this.
    pub fn show(&self, authority: &Authority, identity: &Identity) {
        *self.acceptor.lock().expect("no panic") =
            acceptor(authority, identity, None, &self.sessions);
    }
}

fn acceptor(
    authority: &Authority,
    identity: &Identity,
    clients: Option<&Authority>,
    sessions: &Arc<dyn StoresServerSessions>,
) -> TlsAcceptor {
    let provider = Arc::new(ring_provider::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.certificate()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let leaf =
        CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("a key");
    let chain = vec![leaf, authority.certificate()];
    let mut config = builder.with_single_cert(chain, key).expect("a server");
    config.session_storage = Arc::clone(sessions);
    TlsAcceptor::from(Arc::new(config))
}

/// A connection that fails is the client's affair.
async fn forward(acceptor: TlsAcceptor, stream: TcpStream, target: SocketAddr) {
    let Ok(mut client) = acceptor.accept(stream).await else {
        return;
    };
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
