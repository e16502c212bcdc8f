//! Checks a certificate, its key, and its authority. Pure.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::finding::Finding;

/// A certificate that expires within this time is reported, in seconds.
const SOON: u64 = 30 * 86_400;

/// Content of a client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Common name of the subject.
    pub name: String,
    pub server_names: Vec<String>,
    /// Whether it is valid for servers, too.
    pub is_server: bool,
}

/// A fault of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub found: String,
    pub fix: &'static str,
    /// Whether the certificate still works for now.
    pub is_future: bool,
}

impl Fault {
    fn new(found: impl Into<String>, fix: &'static str) -> Self {
        Self {
            found: found.into(),
            fix,
            is_future: false,
        }
    }

    /// Returns the fault as a finding about `what`.
    pub fn finding(&self, id: &'static str, what: &str, expected: &str) -> Finding {
        let found = format!("{what}: {}", self.found);
        if self.is_future {
            Finding::warning(id, found, "valid for at least 30 days", self.fix)
        } else {
            Finding::error(id, found, expected, self.fix)
        }
    }
}

/// Parses the certificates in a PEM text.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all =
        all.map_err(|error| Fault::new(format!("invalid PEM: {error}"), "copy the file again"))?;
    if all.is_empty() && PrivateKeyDer::from_pem_slice(pem).is_ok() {
        return Err(Fault::new(
            "contains a private key and no certificate",
            "check whether the files are swapped",
        ));
    }
    if all.is_empty() {
        return Err(Fault::new(
            "contains no certificate",
            "use a PEM file: -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(all)
}

/// Parses and checks the file of an authority.
pub fn authority(pem: &[u8], now: u64) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all = certificates(pem)?;
    if PrivateKeyDer::from_pem_slice(pem).is_ok() {
        return Err(Fault::new(
            "contains the authority's private key",
            "remove the key from this node: its holder can impersonate any user",
        ));
    }
    for der in &all {
        let certificate = parse(der)?;
        if !certificate.is_ca() {
            return Err(Fault::new(
                format!("{} is not a CA certificate", certificate.subject()),
                "use the CA's certificate, not one that it has signed",
            ));
        }
        if let Ok(Some(usage)) = certificate.key_usage()
            && !usage.value.key_cert_sign()
        {
            return Err(Fault::new(
                "the CA may not sign certificates (keyUsage)",
                "create a new CA",
            ));
        }
        if let Some(fault) = ended(&certificate, now) {
            return Err(fault);
        }
    }
    Ok(all)
}

/// Checks a client's certificate and key, at `now` and a month later. Returns the identity if it can be read.
pub fn client(
    certificate: &[u8],
    key: Option<&[u8]>,
    authority: &[CertificateDer<'static>],
    now: u64,
) -> (Option<Identity>, Option<Fault>) {
    let chain = match certificates(certificate) {
        Ok(chain) => chain,
        Err(fault) => return (None, Some(fault)),
    };
    let Some(leaf) = chain.first() else {
        return (None, None);
    };
    let identity = parse(leaf).map(|certificate| identity(&certificate));
    let fault = key
        .and_then(|key| unpaired(&chain, key))
        .or_else(|| leaf_fault(leaf, now))
        .or_else(|| untrusted(&chain, authority, now))
        .or_else(|| ends_soon(leaf, now));
    match identity {
        Ok(identity) => (Some(identity), fault),
        Err(unreadable) => (None, Some(unreadable)),
    }
}

fn leaf_fault(leaf: &CertificateDer<'_>, now: u64) -> Option<Fault> {
    let certificate = parse(leaf).ok()?;
    if certificate.is_ca() {
        return Some(Fault::new(
            "is a CA certificate",
            "use the client's own certificate",
        ));
    }
    if let Ok(Some(usage)) = certificate.extended_key_usage()
        && !usage.value.client_auth
        && !usage.value.any
    {
        return Some(Fault::new(
            "is not valid for clients (extendedKeyUsage)",
            "create one with clientAuth",
        ));
    }
    ended(&certificate, now)
}

fn ended(certificate: &X509Certificate<'_>, now: u64) -> Option<Fault> {
    let (from, to) = lifetime(certificate);
    if now < from {
        return Some(Fault::new(
            format!("becomes valid in {}", days(from - now)),
            "set this host's clock",
        ));
    }
    (now > to).then(|| Fault::new(format!("expired {} ago", days(now - to)), "renew it"))
}

fn ends_soon(leaf: &CertificateDer<'_>, now: u64) -> Option<Fault> {
    let (_, to) = lifetime(&parse(leaf).ok()?);
    (to < now + SOON).then(|| Fault {
        found: format!("expires in {}", days(to.saturating_sub(now))),
        fix: "renew it",
        is_future: true,
    })
}

fn lifetime(certificate: &X509Certificate<'_>) -> (u64, u64) {
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let validity = certificate.validity();
    (
        seconds(validity.not_before.timestamp()),
        seconds(validity.not_after.timestamp()),
    )
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{} hours", seconds / 3600),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}

fn unpaired(chain: &[CertificateDer<'static>], key: &[u8]) -> Option<Fault> {
    let has = |needle: &str| {
        key.windows(needle.len())
            .any(|window| window == needle.as_bytes())
    };
    if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        return Some(Fault::new(
            "the key is encrypted",
            "decrypt it: openssl pkey -in KEY -out NEWKEY",
        ));
    }
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => key,
        Err(error) => {
            return Some(Fault::new(
                format!("has no readable private key: {error}"),
                "use a PEM file: PKCS#8, PKCS#1, or SEC1",
            ));
        }
    };
    match CertifiedKey::from_der(chain.to_vec(), key, &ring::default_provider()) {
        Ok(_) => None,
        Err(rustls::Error::InconsistentKeys(_)) => Some(Fault::new(
            "the key does not belong to the certificate",
            "use the certificate and key that were created together",
        )),
        Err(error) => Some(Fault::new(
            format!("the key cannot be used: {error}"),
            "use an RSA, EC, or Ed25519 key",
        )),
    }
}

fn untrusted(
    chain: &[CertificateDer<'static>],
    authority: &[CertificateDer<'static>],
    now: u64,
) -> Option<Fault> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authority.iter().cloned());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::new(ring::default_provider()),
    );
    let verifier = verifier.build().ok()?;
    let (leaf, rest) = chain.split_first()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verifier
        .verify_client_cert(leaf, rest, now)
        .err()
        .map(|error| {
            Fault::new(
                format!("is not signed by the CA: {error}"),
                "use a certificate that this CA has signed",
            )
        })
}

fn identity(certificate: &X509Certificate<'_>) -> Identity {
    let text = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        part.as_str().unwrap_or_default().to_owned()
    };
    let usage = certificate.extended_key_usage().ok().flatten();
    let names = certificate.subject_alternative_name().ok().flatten();
    let dns = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            Some((*name).to_owned())
        } else {
            None
        }
    };
    Identity {
        name: certificate
            .subject()
            .iter_common_name()
            .next()
            .map(text)
            .unwrap_or_default(),
        server_names: names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(dns)
            .collect(),
        is_server: usage.is_some_and(|usage| usage.value.server_auth),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Fault> {
    let parsed = X509Certificate::from_der(der);
    parsed
        .map(|(_, certificate)| certificate)
        .map_err(|error| Fault::new(format!("cannot be parsed: {error}"), "create it again"))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, KeyUsagePurpose,
    };

    use super::*;

    /// 2023-11-14, the first second.
    const NOW: u64 = 1_699_920_000;

    /// A time of the certificates: days from now.
    macro_rules! day {
        ($days:expr) => {{
            let (days, now): (i64, _) = ($days, rcgen::date_time_ymd(2023, 11, 14));
            let span = Duration::from_secs(days.unsigned_abs() * 86_400);
            if days < 0 { now - span } else { now + span }
        }};
    }

    fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (day!(-400), day!(4000));
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(
        issuer: &CertifiedIssuer<'_, KeyPair>,
        days: (i64, i64),
        usage: ExtendedKeyUsagePurpose,
    ) -> (String, String) {
        let mut params = CertificateParams::new(vec!["kubernetes.default".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        params
            .distinguished_name
            .push(DnType::CommonName, "kubernetes");
        (params.not_before, params.not_after) = (day!(days.0), day!(days.1));
        let key = KeyPair::generate().unwrap();
        (
            params.signed_by(&key, issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    fn found(certificate: &str, key: &str, issuer: &CertifiedIssuer<'_, KeyPair>) -> String {
        let ca = authority(issuer.pem().as_bytes(), NOW).unwrap();
        client(certificate.as_bytes(), Some(key.as_bytes()), &ca, NOW)
            .1
            .map(|fault| fault.found)
            .unwrap_or_default()
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let (ca, other) = (issuer("ca"), issuer("other"));
        let (good, key) = leaf(&ca, (-1, 300), ClientAuth);
        assert_eq!(found(&good, &key, &ca), "");
        let (_, wrong) = leaf(&ca, (-1, 300), ClientAuth);
        assert!(found(&good, &wrong, &ca).contains("does not belong to the certificate"));
        assert!(found(&good, "", &ca).contains("no readable private key"));
        assert!(found(&good, "-----BEGIN ENCRYPTED PRIVATE KEY-----", &ca).contains("encrypted"));
        assert!(found(&key, &key, &ca).contains("a private key and no certificate"));
        assert!(found("nothing", &key, &ca).contains("no certificate"));
        for (days, want) in [
            ((-300, -2), "expired 2 days ago"),
            ((2, 300), "becomes valid in 2 days"),
            ((-300, 9), "expires in 9 days"),
        ] {
            let (certificate, key) = leaf(&ca, days, ClientAuth);
            assert!(found(&certificate, &key, &ca).contains(want), "{days:?}");
        }
        let (server, key) = leaf(&ca, (-1, 300), ServerAuth);
        assert!(found(&server, &key, &ca).contains("not valid for clients"));
        let (foreign, key) = leaf(&other, (-1, 300), ClientAuth);
        assert!(found(&foreign, &key, &ca).contains("is not signed by the CA"));
        let key = other.key().serialize_pem();
        assert!(found(&other.pem(), &key, &ca).contains("a CA certificate"));
    }

    #[test]
    fn an_authority_is_one_and_keeps_its_key_at_home() {
        let ca = issuer("ca");
        let fault = |pem: &str, now| authority(pem.as_bytes(), now).unwrap_err().found;
        let (client, _) = leaf(&ca, (-1, 300), ExtendedKeyUsagePurpose::ClientAuth);
        assert!(fault(&client, NOW).contains("not a CA certificate"));
        assert!(
            fault(&format!("{}{}", ca.pem(), ca.key().serialize_pem()), NOW)
                .contains("the authority's private key")
        );
        assert!(fault(&ca.pem(), NOW + 5000 * 86_400).contains("expired"));
        assert!(fault("-----BEGIN CERTIFICATE-----\nx", NOW).contains("PEM"));
    }

    #[test]
    fn a_certificate_says_who_it_is() {
        let ca = issuer("ca");
        let (pem, _) = leaf(&ca, (-1, 300), ExtendedKeyUsagePurpose::ServerAuth);
        let identity = client(pem.as_bytes(), None, &[], NOW).0.unwrap();
        assert!(identity.name == "kubernetes");
        assert!(identity.is_server && identity.server_names == ["kubernetes.default"]);
    }
}
