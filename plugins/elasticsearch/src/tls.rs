//! Whom the sink trusts: the public authorities, those of a file, or the one of a fingerprint, and nobody beside them.

use std::fmt;
use std::fs;
use std::sync::Arc;

use ring::digest;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, ring as ring_provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use weir_plugin_sdk::{Deserialize, Errors, JsonSchema};

use crate::identity::IdentityFiles;

const SHA256_BYTES: usize = 32;

/// TLS towards the servers. Without it, `https` URLs need a certificate of a public authority.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the authorities that sign the servers' certificates. Only these are trusted then, no public one.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// SHA-256 of the authority's certificate in hexadecimal, colons allowed, as Elasticsearch prints it when it first
    /// starts; in place of `ca_file`. Only that authority is trusted, and the server must send its certificate in the
    /// chain of every connection.
    #[serde(default)]
    pub ca_fingerprint: Option<String>,
    /// PEM file of the certificate that the sink shows, with those between it and its authority; needs `key_file`. Both
    /// files are read again for a new connection when they have changed.
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

impl TlsConfig {
    /// What every connection is made with. Nothing is resumed: each one is verified in full, and shows the client's
    /// certificate as it is then.
    ///
    /// Errors: a file cannot be read or holds no certificate; with the file's name.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring_provider::default_provider());
        let fingerprint = self.ca_fingerprint.as_deref().and_then(Fingerprint::parse);
        let verifier: Arc<dyn ServerCertVerifier> = match fingerprint {
            Some(fingerprint) => Arc::new(PinnedAuthority {
                fingerprint,
                provider: Arc::clone(&provider),
            }),
            None => trust(self.roots()?, &provider).map_err(|error| error.to_string())?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                let identity = IdentityFiles::load(certificate, key, provider)?;
                builder.with_client_cert_resolver(Arc::new(identity))
            }
            _ => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let Some(path) = &self.ca_file else {
            let public = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
            return Ok(RootCertStore::from_iter(public));
        };
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{path} holds no usable authority: {error}"))?;
        }
        Ok(roots)
    }
}

/// The certificates of a PEM file, at least one.
pub(crate) fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{path} holds no PEM certificate")),
    }
}

fn trust(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
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
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Trusts the one authority that has the fingerprint, among the certificates that the server shows.
#[derive(Debug)]
struct PinnedAuthority {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut shown = std::iter::once(end_entity).chain(intermediates);
        let authority = shown.find(|shown| Fingerprint::of(shown) == self.fingerprint);
        let authority = authority.ok_or_else(|| {
            rustls::Error::General(format!(
                "none of the {} certificates that the server shows has the fingerprint `tls.ca_fingerprint`",
                intermediates.len() + 1
            ))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        trust(roots, &self.provider)?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
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
            &self.provider.signature_verification_algorithms,
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
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
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

    #[test]
    fn an_authority_of_a_file_stands_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        fs::write(&path, weir_test_tls::Authority::new().pem()).expect("written");
        let config = TlsConfig {
            ca_file: path.to_str().map(str::to_owned),
            ..TlsConfig::default()
        };
        assert_eq!(config.roots().expect("roots").len(), 1);
        let public = TlsConfig::default().roots().expect("roots");
        assert!(public.len() > 1);
    }
}
