//! One certificate, its key and its authority: pure.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Seconds in which a certificate should not end.
const SOON: u64 = 30 * 86_400;

/// What a client certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Common name of the subject.
    pub name: String,
    /// Organisations of the subject.
    pub groups: Vec<String>,
    /// Names it has as a server.
    pub server_names: Vec<String>,
    /// Whether it may be a server's as well.
    pub is_server: bool,
    /// End, seconds since 1970.
    pub ends: u64,
}

/// What is wrong with a certificate: what was found, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was found.
    pub found: String,
    /// What to do.
    pub fix: &'static str,
    /// Whether it works for now.
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
}

/// Certificates in a PEM text.
///
/// # Errors
/// When there are none, or it is damaged.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all =
        all.map_err(|error| Fault::new(format!("damaged PEM: {error}"), "copy the file anew"))?;
    if all.is_empty() && PrivateKeyDer::from_pem_slice(pem).is_ok() {
        return Err(Fault::new(
            "a private key, and no certificate",
            "are the files swapped?",
        ));
    }
    if all.is_empty() {
        return Err(Fault::new(
            "no certificate in it",
            "it must be PEM: -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(all)
}

/// What is wrong with an authority's file; its certificates if nothing is.
///
/// # Errors
/// The first thing that is wrong.
pub fn authority(pem: &[u8], now: u64) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all = certificates(pem)?;
    if PrivateKeyDer::from_pem_slice(pem).is_ok() {
        return Err(Fault::new(
            "the authority's private key is in it",
            "take it off this node: whoever has it is everybody",
        ));
    }
    for der in &all {
        let certificate = parse(der)?;
        if !certificate.is_ca() {
            return Err(Fault::new(
                format!(
                    "{} is no certificate of an authority",
                    certificate.subject()
                ),
                "give the CA's certificate, not one that it has signed",
            ));
        }
        if let Ok(Some(usage)) = certificate.key_usage()
            && !usage.value.key_cert_sign()
        {
            return Err(Fault::new(
                "it may not sign certificates (keyUsage)",
                "make the authority anew",
            ));
        }
        if let Some(fault) = ended(&certificate, now) {
            return Err(fault);
        }
    }
    Ok(all)
}

/// What is wrong with a client's certificate and key, at `now` and a month later; who it is if it can be read.
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
            "it is the certificate of an authority",
            "give the client's own",
        ));
    }
    if let Ok(Some(usage)) = certificate.extended_key_usage()
        && !usage.value.client_auth
        && !usage.value.any
    {
        return Some(Fault::new(
            "it is not for clients (extendedKeyUsage)",
            "make one with clientAuth",
        ));
    }
    ended(&certificate, now)
}

fn ended(certificate: &X509Certificate<'_>, now: u64) -> Option<Fault> {
    let (from, to) = lifetime(certificate);
    if now < from {
        return Some(Fault::new(
            format!("it begins to be valid in {}", days(from - now)),
            "set this host's clock",
        ));
    }
    (now > to).then(|| Fault::new(format!("it ended {} ago", days(now - to)), "renew it"))
}

fn ends_soon(leaf: &CertificateDer<'_>, now: u64) -> Option<Fault> {
    let (_, to) = lifetime(&parse(leaf).ok()?);
    (to < now + SOON).then(|| Fault {
        found: format!("it ends in {}", days(to.saturating_sub(now))),
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
                format!("no private key can be read: {error}"),
                "it must be PEM: PKCS#8, PKCS#1 or SEC1",
            ));
        }
    };
    match CertifiedKey::from_der(chain.to_vec(), key, &ring::default_provider()) {
        Ok(_) => None,
        Err(rustls::Error::InconsistentKeys(_)) => Some(Fault::new(
            "the key is not that of the certificate",
            "give the two that were made together",
        )),
        Err(error) => Some(Fault::new(
            format!("the key cannot be used: {error}"),
            "use an RSA, EC or Ed25519 key",
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
                format!("it does not go back to the CA: {error}"),
                "give the certificate that this CA has signed",
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
        groups: certificate
            .subject()
            .iter_organization()
            .map(text)
            .collect(),
        server_names: names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(dns)
            .collect(),
        is_server: usage.is_some_and(|usage| usage.value.server_auth),
        ends: lifetime(certificate).1,
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Fault> {
    let parsed = X509Certificate::from_der(der);
    parsed
        .map(|(_, certificate)| certificate)
        .map_err(|error| Fault::new(format!("it cannot be read: {error}"), "make it anew"))
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
        params
            .distinguished_name
            .push(DnType::OrganizationName, "k8s");
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
        assert!(found(&good, &wrong, &ca).contains("not that of the certificate"));
        assert!(found(&good, "", &ca).contains("no private key"));
        assert!(found(&good, "-----BEGIN ENCRYPTED PRIVATE KEY-----", &ca).contains("encrypted"));
        assert!(found(&key, &key, &ca).contains("a private key, and no certificate"));
        assert!(found("nothing", &key, &ca).contains("no certificate"));
        for (days, want) in [
            ((-300, -2), "it ended 2 days ago"),
            ((2, 300), "begins to be valid in 2 days"),
            ((-300, 9), "it ends in 9 days"),
        ] {
            let (certificate, key) = leaf(&ca, days, ClientAuth);
            assert!(found(&certificate, &key, &ca).contains(want), "{days:?}");
        }
        let (server, key) = leaf(&ca, (-1, 300), ServerAuth);
        assert!(found(&server, &key, &ca).contains("not for clients"));
        let (foreign, key) = leaf(&other, (-1, 300), ClientAuth);
        assert!(found(&foreign, &key, &ca).contains("does not go back to the CA"));
        let key = other.key().serialize_pem();
        assert!(found(&other.pem(), &key, &ca).contains("of an authority"));
    }

    #[test]
    fn an_authority_is_one_and_keeps_its_key_at_home() {
        let ca = issuer("ca");
        let fault = |pem: &str, now| authority(pem.as_bytes(), now).unwrap_err().found;
        let (client, _) = leaf(&ca, (-1, 300), ExtendedKeyUsagePurpose::ClientAuth);
        assert!(fault(&client, NOW).contains("no certificate of an authority"));
        assert!(
            fault(&format!("{}{}", ca.pem(), ca.key().serialize_pem()), NOW)
                .contains("private key is in it")
        );
        assert!(fault(&ca.pem(), NOW + 5000 * 86_400).contains("it ended"));
        assert!(fault("-----BEGIN CERTIFICATE-----\nx", NOW).contains("PEM"));
    }

    #[test]
    fn a_certificate_says_who_it_is() {
        let ca = issuer("ca");
        let (pem, _) = leaf(&ca, (-1, 300), ExtendedKeyUsagePurpose::ServerAuth);
        let identity = client(pem.as_bytes(), None, &[], NOW).0.unwrap();
        assert_eq!(
            (identity.name.as_str(), identity.groups.as_slice()),
            ("kubernetes", &["k8s".to_owned()][..])
        );
        assert!(identity.is_server && identity.server_names == ["kubernetes.default"]);
    }
}
