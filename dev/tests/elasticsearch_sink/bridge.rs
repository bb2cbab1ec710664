//! An authority made for the test, and a bridge from plain HTTP to the server's TLS, for a test client that speaks none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring as ring_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use weir_dev::servers::TlsFiles;

/// Signs what the test's server and clients show.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Authority { issuer })
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// SHA-256 of its certificate, hexadecimal.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.issuer.der());
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// A certificate for `name` with the authority's own behind it, and its key.
    pub fn sign(&self, name: &str) -> Result<TlsFiles> {
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(TlsFiles {
            certificate: format!("{}{}", certificate.pem(), self.pem()),
            key: key.serialize_pem(),
            authority: self.pem(),
        })
    }

    /// Takes plain connections and passes what they carry to `target` by TLS, until the process ends. Answers the port.
    pub fn bridge(&self, target: SocketAddr) -> Result<u16> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let provider = Arc::new(ring_provider::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(forward(connector.clone(), stream, target));
                }
            });
        });
        Ok(port)
    }
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
