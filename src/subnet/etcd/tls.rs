//! The TLS files: read, checked, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::RootCertStore;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::Error;

const CA_FLAG: &str = "-etcd-cafile";
const CERT_FLAG: &str = "-etcd-certfile";
const KEY_FLAG: &str = "-etcd-keyfile";

/// The files, and what was last read from them without a fault.
pub(super) struct Tls {
    ca: PathBuf,
    pair: Option<(PathBuf, PathBuf)>,
    last: Mutex<Last>,
}

struct Last {
    options: TlsOptions,
    complaint: Option<String>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// One for each way in which a file can be wrong: with its flag, its name, the cause and a remedy.
    pub(super) fn load(ca: PathBuf, pair: Option<(PathBuf, PathBuf)>) -> Result<Self, Error> {
        let options = read(&ca, pair.as_ref())?;
        Ok(Self { ca, pair, last: Mutex::new(Last { options, complaint: None }) })
    }

    /// What a new connection shall use: the files as they are now, so that rotated certificates are picked up. While
    /// they are broken (perhaps half written) the last good ones stay in use.
    pub(super) fn options(&self) -> TlsOptions {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.ca, self.pair.as_ref()) {
            Ok(options) => *last = Last { options, complaint: None },
            Err(error) => {
                let complaint = Some(error.to_string());
                if last.complaint != complaint {
                    warn!("{error}; going on with the certificates read before");
                    last.complaint = complaint;
                }
            }
        }
        last.options.clone()
    }
}

fn read(ca: &Path, pair: Option<&(PathBuf, PathBuf)>) -> Result<TlsOptions, Error> {
    let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(read_ca(ca)?));
    if let Some((cert, key)) = pair {
        let (cert, key) = read_pair(cert, key)?;
        options = options.identity(Identity::from_pem(cert, key));
    }
    Ok(options)
}

fn read_ca(path: &Path) -> Result<Vec<u8>, Error> {
    let pem = contents(CA_FLAG, path)?;
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(certificates(CA_FLAG, path, &pem)?);
    if usable == 0 {
        return Err(bad(CA_FLAG, path, "no certificate in it can be read", "use the PEM file of the CA"));
    }
    Ok(pem)
}

fn read_pair(cert: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let cert_pem = contents(CERT_FLAG, cert)?;
    let chain = certificates(CERT_FLAG, cert, &cert_pem)?;
    let key_pem = contents(KEY_FLAG, key)?;
    let der = private_key(key, &key_pem)?;
    match CertifiedKey::from_der(chain, der, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Ok((cert_pem, key_pem)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(bad(
            KEY_FLAG,
            key,
            &format!("it is not the key of the certificate in {}", cert.display()),
            "give the certificate and the key that were made together",
        )),
        Err(rustls::Error::InvalidCertificate(why)) => {
            Err(bad(CERT_FLAG, cert, &format!("the certificate cannot be read: {why}"), "make it anew"))
        }
        Err(why) => Err(bad(
            KEY_FLAG,
            key,
            &format!("the key cannot be used: {why}"),
            "use an RSA, EC or Ed25519 key",
        )),
    }
}

fn contents(flag: &str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| {
        let forbidden = error.kind() == std::io::ErrorKind::PermissionDenied;
        let remedy = if forbidden { "let the user that flanneld runs as read it" } else { "check the path" };
        bad(flag, path, &format!("cannot read it: {error}"), remedy)
    })
}

fn certificates(flag: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| bad(flag, path, &format!("damaged PEM: {error}"), "copy it anew"))?;
    if !found.is_empty() {
        return Ok(found);
    }
    if holds_key(pem) {
        return Err(bad(flag, path, "it holds a private key, not a certificate", "are the files swapped?"));
    }
    Err(bad(flag, path, "there is no certificate in it", "it must be PEM: -----BEGIN CERTIFICATE-----"))
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    if is_encrypted(pem) {
        return Err(bad(
            KEY_FLAG,
            path,
            "the key is encrypted",
            "decrypt it: openssl pkey -in KEY -out NEWKEY",
        ));
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) if holds_certificate(pem) => {
            Err(bad(KEY_FLAG, path, "it holds a certificate, not a private key", "are the files swapped?"))
        }
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(bad(
            KEY_FLAG,
            path,
            "there is no private key in it",
            "it must be PEM: PKCS#8, PKCS#1 or SEC1",
        )),
        Err(error) => Err(bad(KEY_FLAG, path, &format!("damaged PEM: {error}"), "copy it anew")),
    }
}

fn holds_certificate(pem: &[u8]) -> bool {
    CertificateDer::pem_slice_iter(pem).any(|item| item.is_ok())
}

fn holds_key(pem: &[u8]) -> bool {
    let is_key = |kind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    is_encrypted(pem) || <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).flatten().any(|(kind, _)| is_key(kind))
}

/// PKCS#8 says so in its label, the older forms in a header line.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn bad(flag: &str, path: &Path, why: &str, remedy: &str) -> Error {
    Error::Refused(format!("{flag} {}: {why}; {remedy}", path.display()))
}
