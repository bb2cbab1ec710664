//! What the sink shows of itself: its client certificate, read again when its files change, so that it can be rotated
//! without a restart.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use crate::credentials::{Stamp, stamp_of};
use crate::tls::read_certificates;

/// Certificate and key by their files.
#[derive(Debug)]
pub(crate) struct IdentityFiles {
    certificate: String,
    key: String,
    provider: Arc<CryptoProvider>,
    /// The last pair that fitted, and what its files were like then.
    read: Mutex<(Option<Stamps>, Arc<CertifiedKey>)>,
}

type Stamps = (Stamp, Stamp);

impl IdentityFiles {
    /// Errors: a file cannot be read or used, or the key is not the certificate's; with the file's name.
    pub(crate) fn load(
        certificate: &str,
        key: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let stamps = stamps_of(certificate, key);
        let pair = read_pair(certificate, key, &provider)?;
        Ok(IdentityFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider,
            read: Mutex::new((stamps, pair)),
        })
    }

    /// The pair of now. While one file is new and the other is not yet, the last pair that fitted.
    fn current(&self) -> Arc<CertifiedKey> {
        let stamps = stamps_of(&self.certificate, &self.key);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps != read.0
            && let Ok(pair) = read_pair(&self.certificate, &self.key, &self.provider)
        {
            *read = (stamps, pair);
        }
        Arc::clone(&read.1)
    }
}

impl ResolvesClientCert for IdentityFiles {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn stamps_of(certificate: &str, key: &str) -> Option<Stamps> {
    let stamp = |path| fs::metadata(path).ok().map(|metadata| stamp_of(&metadata));
    stamp(certificate).zip(stamp(key))
}

fn read_pair(
    certificate: &str,
    key: &str,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, String> {
    let chain = read_certificates(certificate)?;
    let pem = fs::read(key).map_err(|error| format!("{key} cannot be read: {error}"))?;
    let private_key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{key} holds no PEM private key"))?;
    let pair = CertifiedKey::from_der(chain, private_key, provider);
    pair.map(Arc::new)
        .map_err(|error| format!("{key} is no key for {certificate}: {error}"))
}
