//! Whom the sink trusts, and what it shows of itself: CA file, CA fingerprint, client certificate.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use elasticsearch::auth::ClientCertificate;
use elasticsearch::cert::Certificate;
use elasticsearch::http::Url;
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, ring as ring_provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weir_plugin_sdk::{Deserialize, Errors, JsonSchema};

const SHA256_BYTES: usize = 32;

/// TLS towards the servers. Without it, `https` URLs need a certificate of a public authority.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the authorities that sign the servers' certificates, beside the public ones.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// SHA-256 of the authority's certificate in hexadecimal, colons allowed, as Elasticsearch prints it when it first
    /// starts; in place of `ca_file`. The server must send that certificate in its chain.
    #[serde(default)]
    pub ca_fingerprint: Option<String>,
    /// PEM file of the certificate that the sink shows; needs `key_file`.
    #[serde(default)]
    pub certificate_file: Option<String>,
    /// PEM file of the private key of `certificate_file`.
    #[serde(default)]
    pub key_file: Option<String>,
}

impl serde::Serialize for TlsConfig {
    /// For the default in the schema: nothing is set.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde::ser::SerializeMap::end(serializer.serialize_map(Some(0))?)
    }
}

impl TlsConfig {
    /// Adds every error that can be told without opening a file.
    pub(crate) fn check(&self, errors: &mut Errors) {
        let (certificate, key) = (self.certificate_file.is_some(), self.key_file.is_some());
        errors.check(
            certificate || !key,
            "tls.certificate_file",
            "is missing beside `key_file`",
        );
        errors.check(
            key || !certificate,
            "tls.key_file",
            "is missing beside `certificate_file`",
        );
        let Some(fingerprint) = &self.ca_fingerprint else {
            return;
        };
        errors.check(
            self.ca_file.is_none(),
            "tls.ca_fingerprint",
            "cannot stand beside `ca_file`; use one of them",
        );
        errors.check(
            Fingerprint::parse(fingerprint).is_some(),
            "tls.ca_fingerprint",
            "is no SHA-256 fingerprint; give its 64 hexadecimal digits",
        );
    }
}

/// What was read from the files.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// PEM that is known to be readable.
    authorities_pem: Option<Vec<u8>>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) identity: Option<ClientCertificate>,
}

impl Tls {
    /// Errors: a file cannot be read or holds no certificate; with the file's name.
    pub(crate) fn load(config: &TlsConfig) -> Result<Self, String> {
        let authorities = config.ca_file.as_deref().map(|path| {
            let pem = read(path)?;
            match Certificate::from_pem(&pem) {
                Ok(certificates) if !certificates.is_empty() => Ok(pem),
                _ => Err(format!("{path} holds no PEM certificate")),
            }
        });
        let identity = match (&config.certificate_file, &config.key_file) {
            (Some(certificate), Some(key)) => {
                let mut pem = read(key)?;
                pem.push(b'\n');
                pem.extend(read(certificate)?);
                Some(ClientCertificate::Pem(pem))
            }
            _ => None,
        };
        Ok(Tls {
            authorities_pem: authorities.transpose()?,
            fingerprint: config
                .ca_fingerprint
                .as_deref()
                .and_then(Fingerprint::parse),
            identity,
        })
    }
}

impl Tls {
    /// The authorities of `ca_file`.
    pub(crate) fn authorities(&self) -> Option<Certificate> {
        self.authorities_pem
            .as_deref()
            .and_then(|pem| Certificate::from_pem(pem).ok())
    }
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{path} cannot be read: {error}"))
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; SHA256_BYTES]);

impl Fingerprint {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes = pairs
            .iter()
            .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
            .collect::<Option<Vec<u8>>>()?;
        let whole = rest.is_empty().then(|| bytes.try_into().ok())??;
        Some(Fingerprint(whole))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; SHA256_BYTES];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Fingerprint(bytes)
    }

    /// Asks the server for its chain and answers the certificate that has this fingerprint. It is trusted as an authority
    /// afterwards; nothing but the handshake is sent before.
    ///
    /// Errors: the server was not reached, or shows no such certificate.
    pub(crate) async fn find_at(self, url: &Url, timeout: Duration) -> Result<Certificate, String> {
        let chain = tokio::time::timeout(timeout, chain_of(url))
            .await
            .map_err(|_| "no TLS handshake within the timeout".to_owned())??;
        let authority = chain
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self);
        let authority = authority.ok_or_else(|| {
            format!(
                "none of the {} certificates that the server shows has the fingerprint `tls.ca_fingerprint`",
                chain.len()
            )
        })?;
        Certificate::from_der(authority)
            .map_err(|_| "the authority's certificate is unreadable".to_owned())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

async fn chain_of(url: &Url) -> Result<Vec<CertificateDer<'static>>, String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let provider = Arc::new(ring_provider::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect())
}

/// Takes any certificate, for a connection that carries nothing: whether it is to be trusted is decided by its
/// fingerprint afterwards, and every real connection is verified in full.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "AB".repeat(32);
        let colons = ["ab"; 32].join(":");
        assert!(Fingerprint::parse(&plain).is_some());
        assert_eq!(Fingerprint::parse(&plain), Fingerprint::parse(&colons));
        for bad in [
            "",
            "ab",
            &"zz".repeat(32),
            &"ab".repeat(33),
            &"a".repeat(63),
        ] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }
}
