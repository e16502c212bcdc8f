//! The TLS files: read, checked, and read again when they change.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tracing::warn;

use super::Error;

const CA_FLAG: &str = "-etcd-cafile";
const CERT_FLAG: &str = "-etcd-certfile";
const KEY_FLAG: &str = "-etcd-keyfile";
/// For each step of asking a server why it hangs up.
const KNOCK: Duration = Duration::from_secs(1);

/// The files, and what was last read from them without a fault.
pub(super) struct Tls {
    ca: PathBuf,
    pair: Option<(PathBuf, PathBuf)>,
    last: Mutex<Last>,
}

struct Last {
    material: Material,
    complaint: Option<String>,
}

/// One reading of the files: for the etcd client, and for our own handshake.
#[derive(Clone)]
struct Material {
    options: TlsOptions,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// One for each way in which a file can be wrong: with its flag, its name, the cause and a remedy.
    pub(super) fn load(ca: PathBuf, pair: Option<(PathBuf, PathBuf)>) -> Result<Self, Error> {
        let material = read(&ca, pair.as_ref())?;
        Ok(Self { ca, pair, last: Mutex::new(Last { material, complaint: None }) })
    }

    /// What a new connection shall use: the files as they are now, so that rotated certificates are picked up. While
    /// they are broken (perhaps half written) the last good ones stay in use.
    pub(super) fn options(&self) -> TlsOptions {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.ca, self.pair.as_ref()) {
            Ok(material) => *last = Last { material, complaint: None },
            Err(error) => {
                let complaint = Some(error.to_string());
                if last.complaint != complaint {
                    warn!("{error}; going on with the certificates read before");
                    last.complaint = complaint;
                }
            }
        }
        last.material.options.clone()
    }

    /// Why a server hung up, if TLS is the reason. In TLS 1.3 a server judges the client's certificate after the
    /// handshake, and the etcd client loses the answer: it only tells of a broken pipe.
    pub(super) async fn objection(&self, authority: &str) -> Option<rustls::Error> {
        let config = Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner).material.config);
        let authority = authority.to_owned();
        let answer = tokio::task::spawn_blocking(move || knock(&authority, config).err()).await.ok()??;
        answer.into_inner()?.downcast::<rustls::Error>().ok().map(|error| *error)
    }
}

fn knock(authority: &str, config: Arc<ClientConfig>) -> io::Result<()> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let address = authority.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut tcp = TcpStream::connect_timeout(&address, KNOCK)?;
    tcp.set_read_timeout(Some(KNOCK))?;
    tcp.set_write_timeout(Some(KNOCK))?;
    let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    rustls::Stream::new(&mut tls, &mut tcp).read(&mut [0]).map(drop)
}

fn read(ca: &Path, pair: Option<&(PathBuf, PathBuf)>) -> Result<Material, Error> {
    let (ca_pem, roots) = read_ca(ca)?;
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(ca_pem));
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Refused(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    let Some((cert, key)) = pair else {
        return Ok(Material { options, config: speaking_http2(builder.with_no_client_auth()) });
    };
    let (cert_pem, key_pem) = (contents(CERT_FLAG, cert)?, contents(KEY_FLAG, key)?);
    let chain = certificates(CERT_FLAG, cert, &cert_pem)?;
    let config = builder
        .with_client_auth_cert(chain, private_key(key, &key_pem)?)
        .map_err(|error| bad_pair(cert, key, &error))?;
    let options = options.identity(Identity::from_pem(cert_pem, key_pem));
    Ok(Material { options, config: speaking_http2(config) })
}

fn speaking_http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols.push(b"h2".to_vec());
    Arc::new(config)
}

fn read_ca(path: &Path) -> Result<(Vec<u8>, RootCertStore), Error> {
    let pem = contents(CA_FLAG, path)?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates(CA_FLAG, path, &pem)?);
    if usable == 0 {
        return Err(bad(CA_FLAG, path, "no certificate in it can be read", "use the PEM file of the CA"));
    }
    Ok((pem, roots))
}

fn bad_pair(cert: &Path, key: &Path, error: &rustls::Error) -> Error {
    if let rustls::Error::InconsistentKeys(_) = error {
        let why = format!("it is not the key of the certificate in {}", cert.display());
        return bad(KEY_FLAG, key, &why, "give the certificate and the key that were made together");
    }
    if let rustls::Error::InvalidCertificate(why) = error {
        return bad(CERT_FLAG, cert, &format!("the certificate cannot be read: {why}"), "make it anew");
    }
    bad(KEY_FLAG, key, &format!("the key cannot be used: {error}"), "use an RSA, EC or Ed25519 key")
}

fn contents(flag: &str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| {
        let forbidden = error.kind() == io::ErrorKind::PermissionDenied;
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
