//! TLS in front of the store: authorities and certificates made for one test, and a forwarder that speaks TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::ring as ring_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, as PEM.
pub struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// An authority that a test trusts.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().expect("a key");
        Authority {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// SHA-256 of the certificate, hexadecimal.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.issuer.der());
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":")
    }

    /// A certificate for `name`, that has ended already if `expired`.
    pub fn sign(&self, name: &str, expired: bool) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// Takes TLS connections and passes what they carry to a target; ends with the process.
pub struct TlsFront {
    pub port: u16,
    acceptor: Arc<Mutex<TlsAcceptor>>,
}

impl TlsFront {
    /// `clients`: asks each client for a certificate of this authority.
    pub fn start(
        target: SocketAddr,
        authority: &Authority,
        identity: &Identity,
        clients: Option<&Authority>,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = Arc::new(Mutex::new(acceptor(authority, identity, clients)));
        let shown = Arc::clone(&acceptor);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = shown.lock().expect("no panic").clone();
                    tokio::spawn(forward(acceptor, stream, target));
                }
            });
        });
        TlsFront { port, acceptor }
    }

    /// Connections from now on are shown this.
    pub fn show(&self, authority: &Authority, identity: &Identity) {
        *self.acceptor.lock().expect("no panic") = acceptor(authority, identity, None);
    }
}

fn acceptor(
    authority: &Authority,
    identity: &Identity,
    clients: Option<&Authority>,
) -> TlsAcceptor {
    let provider = Arc::new(ring_provider::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.issuer.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let leaf =
        CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("a key");
    let chain = vec![leaf, authority.issuer.der().clone()];
    let config = builder.with_single_cert(chain, key).expect("a server");
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
