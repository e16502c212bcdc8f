//! Which certificates and keys are accepted, as Go's TLS has it: pure.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// What [`provider`] can sign with: keys of this client.
pub(super) const CLIENT_KEYS: &str = "RSA with 2048 to 4096 bits, EC on P-256 or P-384, or Ed25519";
/// What it can verify: keys of servers.
pub(super) const SERVER_KEYS: &str = "RSA with 2048 to 8192 bits, EC on P-256 or P-384, or Ed25519";

/// Lengths of RSA keys, in bits.
const CLIENT_RSA: RangeInclusive<usize> = 2048..=4096;
const SERVER_RSA: RangeInclusive<usize> = 2048..=8192;
const EC: &str = "1.2.840.10045.2.1";
/// Names of curves, and whether they are supported.
const CURVES: &[(&str, &str, bool)] = &[
    ("1.2.840.10045.3.1.7", "P-256", true),
    ("1.3.132.0.34", "P-384", true),
    ("1.3.132.0.35", "P-521", false),
    ("1.3.132.0.10", "secp256k1", false),
];
/// Names of other algorithms, and whether they are supported.
const ALGORITHMS: &[(&str, &str, bool)] = &[
    ("1.3.101.112", "an Ed25519 key", true),
    ("1.3.101.113", "an Ed448 key", false),
    ("1.2.840.10040.4.1", "a DSA key", false),
    ("1.2.840.113549.1.1.10", "an RSA-PSS key", false),
];

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

/// Why a certificate of a server cannot be used, as a sentence with a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

impl From<Unusable> for Error {
    fn from(why: Unusable) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// Accepts a server whose certificate a CA of `-etcd-cafile` has signed, or whose certificate is itself in that file.
///
/// Go accepts the second as well, no matter who signed it and whether or not it is marked as a CA. Name, validity, purpose, and
/// the signature of the handshake are checked in both cases.
#[derive(Debug)]
pub(super) struct ServerTrust {
    /// `None`: no certificate in the file is a CA's.
    by_ca: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    listed: Vec<CertificateDer<'static>>,
}

impl ServerTrust {
    /// `None`: none of the certificates can be read.
    pub(super) fn new(listed: Vec<CertificateDer<'static>>) -> Option<Self> {
        let (mut roots, mut is_any_read) = (RootCertStore::empty(), false);
        for certificate in &listed {
            let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
                continue;
            };
            is_any_read = true;
            // webpki takes every anchor for a CA. A server's certificate in the file must not vouch for others, as in Go.
            if parsed.version() != X509Version::V3 || parsed.is_ca() {
                roots.add_parsable_certificates([certificate.clone()]);
            }
        }
        let provider = provider();
        let verifier = || {
            WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots.clone()),
                Arc::clone(&provider),
            )
            .build()
        };
        let by_ca = if roots.is_empty() {
            None
        } else {
            Some(verifier().ok()?)
        };
        is_any_read.then_some(Self {
            by_ca,
            provider,
            listed,
        })
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.listed.iter().any(|listed| listed == certificate) {
            return verify_listed(certificate, name, now);
        }
        let Some(by_ca) = &self.by_ca else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        by_ca
            .verify_server_cert(certificate, intermediates, name, ocsp, now)
            .map_err(|error| explained(error, certificate))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = crypto::verify_tls12_signature(message, certificate, signature, algorithms);
        verified.map_err(|error| explained(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = crypto::verify_tls13_signature(message, certificate, signature, algorithms);
        verified.map_err(|error| explained(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Checks all but the issuer.
fn verify_listed(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    let usage = parsed
        .extended_key_usage()
        .map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_some_and(|usage| !usage.value.any && !usage.value.server_auth) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    let checked = ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, name));
    checked
        .map(|()| ServerCertVerified::assertion())
        .map_err(|error| explained(error, certificate))
}

/// Puts what `error` leaves out, or has no words for, in its place.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most errors have nothing to do with the kind of the certificate"
)]
fn explained(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return error;
    };
    let kind = key_kind(parsed.public_key(), &SERVER_RSA);
    let why = match &error {
        // Whatever is wrong with these has nothing to do with the kind of the certificate.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::InvalidPurpose
            | CertificateError::InvalidPurposeContext { .. },
        ) => return error,
        _ if !kind.usable => {
            format!("the server's certificate has {}, which cannot be verified; use {SERVER_KEYS}", kind.name)
        }
        _ if parsed.version() != X509Version::V3 => {
            "the server's certificate is of X.509 version 1 and names no host; issue it with a subjectAltName".into()
        }
        Error::InvalidCertificate(CertificateError::Other(_)) if parsed.is_ca() => {
            "the server's certificate is a CA certificate; add it to the file of -etcd-cafile, or issue it without CA:TRUE".into()
        }
        _ => return error,
    };
    Unusable(why).into()
}

/// Why a client certificate and its key cannot be used together.
pub(super) enum PairError {
    /// The certificate is not one.
    Certificate,
    /// The key is of another certificate.
    Mismatch,
    /// The key is of this kind, which is not supported.
    Kind(String),
    /// The key cannot be read although its kind is supported.
    Key,
}

/// A client certificate as it is: the server judges it, so that versions, extensions, and dates do not matter here.
pub(super) fn client_pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<SingleCertAndKey, PairError> {
    let certificate = chain.first().cloned().ok_or(PairError::Certificate)?;
    let (_, parsed) =
        X509Certificate::from_der(&certificate).map_err(|_| PairError::Certificate)?;
    let kind = key_kind(parsed.public_key(), &CLIENT_RSA);
    let Ok(key) = provider().key_provider.load_private_key(key) else {
        return Err(if kind.usable {
            PairError::Key
        } else {
            PairError::Kind(kind.name)
        });
    };
    if key
        .public_key()
        .is_some_and(|public| *public != *parsed.public_key().raw)
    {
        return Err(PairError::Mismatch);
    }
    Ok(CertifiedKey::new(chain, key).into())
}

struct KeyKind {
    /// With its article.
    name: String,
    usable: bool,
}

fn key_kind(key: &SubjectPublicKeyInfo<'_>, rsa_bits: &RangeInclusive<usize>) -> KeyKind {
    if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
        let bits = rsa.key_size();
        return KeyKind {
            name: format!("an RSA key of {bits} bits"),
            usable: rsa_bits.contains(&bits),
        };
    }
    let algorithm = key.algorithm.algorithm.to_id_string();
    if algorithm == EC {
        let parameters = key.algorithm.parameters.as_ref();
        let curve = parameters
            .and_then(|curve| curve.as_oid().ok())
            .map(|oid| oid.to_id_string());
        let curve = curve.unwrap_or_else(|| "a custom curve".into());
        let known = CURVES.iter().find(|(id, ..)| *id == curve);
        let (name, usable) = known.map_or((&*curve, false), |(_, name, usable)| (*name, *usable));
        return KeyKind {
            name: format!("an EC key on {name}"),
            usable,
        };
    }
    match ALGORITHMS.iter().find(|(id, ..)| *id == algorithm) {
        Some((_, name, usable)) => KeyKind {
            name: (*name).into(),
            usable: *usable,
        },
        None => KeyKind {
            name: format!("a key of type {algorithm}"),
            usable: false,
        },
    }
}
