//! TLS errors in words, each with its remedy: pure.

use rustls::{AlertDescription, CertificateError, Error};

use super::tls_policy::{SERVER_KEYS, Unusable};

/// Says what an error means, and what to do about it.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "most TLS errors have no remedy of their own"
)]
pub(super) fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(AlertDescription::HandshakeFailure) => format!(
            "client and server have no cipher or key type in common (use one of these keys for the server: {SERVER_KEYS})"
        ),
        Error::AlertReceived(alert) => {
            let alert = alert_words(*alert);
            format!("the server rejects this client: {alert} (check -etcd-certfile and -etcd-keyfile)")
        }
        Error::InvalidMessage(_) => {
            "the server does not answer with TLS (if it does not speak TLS on this port, use http://)".into()
        }
        Error::PeerIncompatible(_) => {
            "the server offers neither TLS 1.2 nor 1.3 with a usable cipher (check its --tls-min-version and --cipher-suites)".into()
        }
        Error::NoApplicationProtocol => {
            "the server does not speak HTTP/2 (is the port one of etcd's client URLs?)".into()
        }
        Error::General(why) => format!("TLS failed: {why}"),
        _ => "the server violates the TLS protocol (is the port one of etcd's client URLs?)".into(),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "revocation is not checked")]
fn certificate(why: &CertificateError) -> String {
    use CertificateError as Bad;
    let (what, remedy) = match why {
        Bad::UnknownIssuer => (
            "the server's certificate is not signed by a CA in -etcd-cafile",
            "add that CA, or the certificate itself, to the file",
        ),
        Bad::BadSignature => (
            "the server's certificate is signed with a different key than that of the CA in -etcd-cafile",
            "add the current CA to the file",
        ),
        Bad::Expired | Bad::ExpiredContext { .. } => (
            "the server's certificate has expired",
            "renew the server's certificate, or correct this host's clock",
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => (
            "the server's certificate is not valid yet",
            "check this host's clock",
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
            "the server's certificate does not name this endpoint",
            "use a name or address from its subjectAltName",
        ),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => (
            "the server's certificate is not for a server",
            "issue it with serverAuth in extendedKeyUsage",
        ),
        Bad::UnsupportedSignatureAlgorithmContext { .. }
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            "the signature of the server's certificate is of an unsupported kind",
            "sign it with SHA-256 or better and a key of 2048 bits or more",
        ),
        Bad::UnhandledCriticalExtension => (
            "the server's certificate has an unknown critical extension",
            "issue it without that extension",
        ),
        Bad::Other(other) => match other.0.downcast_ref::<Unusable>() {
            Some(why) => return why.to_string(),
            None => (
                "the server's certificate is not valid",
                "inspect it with openssl x509 -text",
            ),
        },
        _ => (
            "the server's certificate cannot be read",
            "inspect it with openssl x509 -text",
        ),
    };
    format!("{what} ({remedy})")
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "what is left says nothing about certificates"
)]
fn alert_words(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let words = match alert {
        Alert::CertificateRequired => "it requires a client certificate",
        Alert::BadCertificate => "it does not accept the client certificate",
        Alert::UnknownCA => "it does not know the CA of the client certificate",
        Alert::CertificateExpired => "the client certificate has expired",
        Alert::CertificateRevoked => "the client certificate is revoked",
        Alert::UnsupportedCertificate => "it cannot use the client certificate",
        Alert::CertificateUnknown => "it cannot verify the client certificate",
        Alert::AccessDenied => "access is denied",
        Alert::ProtocolVersion => "client and server have no TLS version in common",
        Alert::NoApplicationProtocol => "it does not speak HTTP/2",
        Alert::UnrecognisedName => "it does not know the name of this endpoint",
        Alert::InternalError => "it reports an internal error, see its log",
        other => return format!("TLS alert {}", u8::from(other)),
    };
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_is_words_without_a_type_name() {
        for number in 0..=u8::MAX {
            let text = describe(&Error::AlertReceived(AlertDescription::from(number)));
            assert!(
                !text.contains("Unknown(") && (text.contains("-etcd-certfile") || number == 40),
                "{text}"
            );
        }
    }
}
