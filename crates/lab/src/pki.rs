//! Issues certificates for tests.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority in memory.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    /// Its private key (PKCS#8).
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// Returns its certificate in PEM, which others must trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for servers and clients. etcd takes `name` (the CN) as the user's name; `addresses` are the addresses of a
    /// server, besides `localhost`.
    pub fn issue(&self, name: &str, addresses: &[IpAddr]) -> Result<Pair, Error> {
        self.sign(name, addresses, 4096)
    }

    /// Issues a certificate that expired some years ago.
    pub fn issue_expired(&self, name: &str) -> Result<Pair, Error> {
        self.sign(name, &[], 2020)
    }

    fn sign(&self, name: &str, addresses: &[IpAddr], year: i32) -> Result<Pair, Error> {
        let names = addresses
            .iter()
            .map(ToString::to_string)
            .chain(["localhost".into()]);
        let mut params = CertificateParams::new(names.collect::<Vec<String>>())?;
        params.distinguished_name = common_name(name);
        params.not_after = date_time_ymd(year, 1, 1);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair {
            cert,
            key: key.serialize_pem(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
