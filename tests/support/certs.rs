//! Certificates for one test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A CA and a directory for what it signs.
pub struct Ca {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Each has a name of its own: trust is looked up by name.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("CA {}", rand::random::<u64>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).unwrap();
        std::fs::write(
            dir.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        Self {
            dir,
            issuer: Issuer::new(params, key),
        }
    }

    /// The directory, for further files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Its private key, for other tools that sign.
    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("ca.key")
    }

    /// A certificate and key for a host or a client, which expires in `year`.
    pub fn sign(&self, name: &str, host: &str, year: i32) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let files = self.sign_key(name, host, year, &key);
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// A certificate for this key; writing the key's file is left to the caller.
    pub fn sign_key(&self, name: &str, host: &str, year: i32, key: &KeyPair) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let file = |suffix| self.dir.path().join(format!("{name}{suffix}"));
        let cert = params.signed_by(key, &self.issuer).unwrap();
        std::fs::write(file(".pem"), cert.pem()).unwrap();
        (file(".pem"), file(".key"))
    }
}
