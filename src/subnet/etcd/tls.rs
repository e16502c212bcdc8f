//! The TLS files: read, checked, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::warn;

use super::Error;
use super::tls_policy::{self, CLIENT_KEYS, PairError, ServerTrust};
use crate::util::lock;
use crate::util::logging::causes;

/// For reading the files.
const READING: Duration = Duration::from_secs(2);

/// A reading of the files in the blocking pool.
type Reading = JoinHandle<Result<Arc<ClientConfig>, Error>>;

/// The files, and what was last read from them without a fault.
pub(super) struct Tls {
    ca: PathBuf,
    pair: Option<(PathBuf, PathBuf)>,
    last: Mutex<Last>,
    /// A reading that hangs is waited for by all who come.
    reading: tokio::sync::Mutex<Option<Reading>>,
}

struct Last {
    config: Arc<ClientConfig>,
    complaint: Option<String>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// One for each way in which a file can be wrong: with its flag, its name, the cause and a remedy.
    pub(super) fn load(ca: PathBuf, pair: Option<(PathBuf, PathBuf)>) -> Result<Self, Error> {
        let config = read(&ca, pair.as_ref())?;
        let last = Mutex::new(Last {
            config,
            complaint: None,
        });
        Ok(Self {
            ca,
            pair,
            last,
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// Returns what a new connection uses: the files as they are now, so that rotated certificates are picked up. While
    /// they are broken (perhaps half written) or their disk hangs the last good ones stay in use.
    pub(super) async fn config(&self) -> Arc<ClientConfig> {
        let read = self.read().await;
        let mut last = lock(&self.last);
        match read {
            Ok(config) => {
                *last = Last {
                    config,
                    complaint: None,
                }
            }
            Err(error) => {
                let complaint = Some(error.to_string());
                if last.complaint != complaint {
                    warn!(
                        err = %causes(&error),
                        "{error}; still using the certificates read before"
                    );
                    last.complaint = complaint;
                }
            }
        }
        Arc::clone(&last.config)
    }

    /// Returns what was read last.
    pub(super) fn last_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&lock(&self.last).config)
    }

    async fn read(&self) -> Result<Arc<ClientConfig>, Error> {
        let (ca, pair) = (self.ca.clone(), self.pair.clone());
        let mut reading = self.reading.lock().await;
        let job = reading.get_or_insert_with(|| spawn_blocking(move || read(&ca, pair.as_ref())));
        let done = timeout(READING, job).await.map_err(|_| {
            ca_file(&self.ca).bad("reading the TLS files took more than 2 s; check the disk")
        })?;
        *reading = None;
        done.unwrap_or_else(|error| Err(Error::Refused(error.to_string())))
    }
}

/// Makes a client that accepts no server, to find out whether one speaks TLS at all.
pub(super) fn trusting_no_server() -> Result<Arc<ClientConfig>, Error> {
    let builder = builder()?.with_root_certificates(RootCertStore::empty());
    Ok(speaking_http2(builder.with_no_client_auth()))
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(tls_policy::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Refused(format!("cannot set up TLS: {error}")))
}

fn read(ca: &Path, pair: Option<&(PathBuf, PathBuf)>) -> Result<Arc<ClientConfig>, Error> {
    let builder = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(server_trust(ca)?));
    let config = match pair {
        Some((cert, key)) => builder.with_client_cert_resolver(Arc::new(client_pair(cert, key)?)),
        None => builder.with_no_client_auth(),
    };
    Ok(speaking_http2(config))
}

fn speaking_http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols.push(b"h2".to_vec());
    Arc::new(config)
}

/// A file that a flag names.
#[derive(Clone, Copy)]
struct PemFile<'a> {
    flag: &'static str,
    path: &'a Path,
}

impl PemFile<'_> {
    /// The error for this file: what is wrong with it, and what to do.
    fn bad(self, text: &str) -> Error {
        Error::Refused(format!("{} {}: {text}", self.flag, self.path.display()))
    }

    fn damaged(self, error: impl fmt::Display) -> Error {
        self.bad(&format!("damaged PEM: {error}; copy it again"))
    }

    fn contents(self) -> Result<Vec<u8>, Error> {
        std::fs::read(self.path).map_err(|error| {
            let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
                "make it readable for the user that runs flanneld"
            } else {
                "check the path"
            };
            self.bad(&format!("cannot read it: {error}; {remedy}"))
        })
    }

    fn certificates(self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|error| self.damaged(error))?;
        if !found.is_empty() {
            Ok(found)
        } else if holds_key(pem) {
            Err(self.bad("it contains a private key, not a certificate; are the files swapped?"))
        } else {
            Err(self.bad("it contains no certificate; it must be PEM: -----BEGIN CERTIFICATE-----"))
        }
    }

    fn private_key(self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
        if is_encrypted(pem) {
            return Err(
                self.bad("the key is encrypted; decrypt it: openssl pkey -in KEY -out NEWKEY")
            );
        }
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => Ok(key),
            Err(PemError::NoItemsFound) if holds_certificate(pem) => {
                Err(self
                    .bad("it contains a certificate, not a private key; are the files swapped?"))
            }
            Err(PemError::NoItemsFound) => {
                Err(self.bad("it contains no private key; it must be PEM: PKCS#8, PKCS#1 or SEC1"))
            }
            Err(error) => Err(self.damaged(error)),
        }
    }
}

fn ca_file(path: &Path) -> PemFile<'_> {
    PemFile {
        flag: "-etcd-cafile",
        path,
    }
}

fn server_trust(path: &Path) -> Result<ServerTrust, Error> {
    let ca = ca_file(path);
    ServerTrust::new(ca.certificates(&ca.contents()?)?)
        .ok_or_else(|| ca.bad("it contains no readable certificate; use the PEM file of the CA"))
}

fn client_pair(cert: &Path, key: &Path) -> Result<SingleCertAndKey, Error> {
    let cert = PemFile {
        flag: "-etcd-certfile",
        path: cert,
    };
    let key = PemFile {
        flag: "-etcd-keyfile",
        path: key,
    };
    let (cert_pem, key_pem) = (cert.contents()?, key.contents()?);
    let chain = cert.certificates(&cert_pem)?;
    tls_policy::client_pair(chain, key.private_key(&key_pem)?).map_err(|error| match error {
        PairError::Certificate => cert.bad("the certificate cannot be read; create a new one"),
        PairError::Mismatch => key.bad(&format!(
            "it is not the key of the certificate in {}; use a matching pair of certificate and key",
            cert.path.display()
        )),
        PairError::Kind(kind) => key.bad(&format!("{kind} cannot be used; use {CLIENT_KEYS}")),
        PairError::Key => key.bad(&format!("the key cannot be read; use {CLIENT_KEYS}")),
    })
}

fn holds_certificate(pem: &[u8]) -> bool {
    CertificateDer::pem_slice_iter(pem).any(|item| item.is_ok())
}

fn holds_key(pem: &[u8]) -> bool {
    let is_key = |kind| {
        matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
        )
    };
    is_encrypted(pem)
        || <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
            .flatten()
            .any(|(kind, _)| is_key(kind))
}

/// PKCS#8 says so in its label, the older forms in a header line.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A named pipe hangs as a broken disk does.
    #[tokio::test]
    async fn hanging_file_blocks_no_loop_and_keeps_former_certificates() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca.pem");
        let key = rcgen::generate_simple_self_signed(vec!["etcd".to_owned()]).unwrap();
        std::fs::write(&path, key.cert.pem()).unwrap();
        let tls = Tls::load(path.clone(), None).unwrap();
        let good = tls.last_config();
        std::fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let is_done = Arc::new(AtomicBool::new(false));
        // Who reads on the loop is let go in the end, and is late.
        let end = std::thread::spawn({
            let (path, is_done) = (path.clone(), is_done.clone());
            move || {
                let mut looks = 0..1_500;
                while !is_done.load(Ordering::Relaxed) && looks.next().is_some() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let was_done = is_done.load(Ordering::Relaxed);
                std::fs::write(path, "").unwrap();
                was_done
            }
        });
        let mut turns = 0;
        let turning = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                turns += 1;
            }
        };
        tokio::select! {
            now = tls.config() => assert!(Arc::ptr_eq(&now, &good)),
            () = turning => {}
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(end.join().unwrap(), "the loop was held up");
        assert!(turns > 1, "{turns}");
    }
}
