//! What a failed request means, and how it is told to an operator: pure.

use std::error::Error as StdError;
use std::io;

use etcd_client::Error as ClientError;

use super::tls_error;

/// What can be done about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// This member cannot serve now: another one may.
    Unavailable,
    /// Nothing came back in time: the member may be stuck.
    Timeout,
    /// The login is no longer valid: log in again.
    AuthExpired,
    /// The connection has no login, and etcd wants one now: log in. Where that is done or there is nothing to log in
    /// with, a refusal.
    LoginMissing,
    /// TLS failed. Another member may have a better certificate.
    Certificate,
    /// The cluster refuses: the login, or any write. No member will do better.
    Refused,
    /// The user has no right to do this. No member will do better.
    Denied,
}

/// A failed request to one member.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// What can be done about it.
    pub(super) kind: Kind,
    /// Cause and, where there is one, the remedy.
    pub(super) text: String,
}

/// gRPC status codes, by the numbers that the protocol gives them.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

const NO_TLS_HINT: &str = "if the server does not speak TLS on this port, use http://";
const TLS_HINT: &str = "write https:// in -etcd-endpoints, and give -etcd-cafile";
const UNRESOLVED: &str = "cannot resolve";
const NAME_HINT: &str = "check the name, /etc/hosts, and /etc/resolv.conf";
/// What the NOSPACE alarm answers to every write.
const NO_SPACE: &str = "database space exceeded";
const NO_SPACE_HINT: &str = "etcd is full: compact and defragment it, then `etcdctl alarm disarm`";
const LOGIN_HINT: &str = "check -etcd-username/-etcd-password";
const RIGHTS_HINT: &str = "this user's roles lack a permission";

impl Fault {
    fn new(kind: Kind, text: String) -> Self {
        Self { kind, text }
    }

    /// No answer within `limit` seconds.
    pub(super) fn silent(limit: std::time::Duration) -> Self {
        Self::new(
            Kind::Timeout,
            format!("no answer within {} s", limit.as_secs()),
        )
    }

    /// What a TLS handshake of our own ran into.
    pub(super) fn from_tls(error: &rustls::Error) -> Self {
        Self::new(Kind::Certificate, tls_error::describe(error))
    }

    /// A name that no address is found for.
    pub(super) fn unresolved(host: &str, why: &str) -> Self {
        let text = format!("{UNRESOLVED} {host}: {why} ({NAME_HINT})");
        Self::new(Kind::Unavailable, text)
    }

    /// A plain connection to a port that speaks TLS.
    pub(super) fn port_speaks_tls() -> Self {
        let text = format!("the port speaks TLS ({TLS_HINT})");
        Self::new(Kind::Unavailable, text)
    }

    /// Reads an error of a connection that did not come about.
    pub(super) fn from_transport(error: &tonic::transport::Error) -> Self {
        match tls_cause(error) {
            Some(tls) => Self::from_tls(tls),
            None => Self::new(Kind::Unavailable, chain("", error)),
        }
    }

    /// Whether the cluster itself has answered: no member will do better.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.kind, Kind::LoginMissing | Kind::Refused | Kind::Denied)
    }

    /// Whether a connection with a new login may do better. Nothing was carried out then.
    pub(super) fn is_about_login(&self) -> bool {
        matches!(self.kind, Kind::AuthExpired | Kind::LoginMissing)
    }

    /// Whether a server may have taken the connection and then dropped it without a word: this has many texts.
    pub(super) fn is_hang_up(&self) -> bool {
        let answered = self.text.contains("etcdserver:");
        self.kind == Kind::Unavailable
            && !answered
            && !["tcp connect error", UNRESOLVED]
                .iter()
                .any(|how| self.text.contains(how))
    }

    /// A new TLS connection failed: a plain server hangs up on one, or resets it where bytes were unread.
    pub(super) fn perhaps_no_tls(self) -> Self {
        let hung_up = ["tls handshake eof", "Connection reset by peer"]
            .iter()
            .any(|how| self.text.contains(how));
        let hint = (hung_up && self.is_hang_up()).then_some(NO_TLS_HINT);
        Self {
            text: with_hint(self.text, hint),
            ..self
        }
    }

    /// Reads a client error.
    pub(super) fn from_client(error: &ClientError) -> Self {
        let ClientError::GRpcStatus(status) = error else {
            return Self::new(Kind::Unavailable, error.to_string());
        };
        if let Some(tls) = tls_cause(status) {
            return Self::from_tls(tls);
        }
        let kind = kind_of(status.code().into(), status.message());
        let text = chain(status.message(), status);
        let full = text.contains(NO_SPACE).then_some(NO_SPACE_HINT);
        let refused = match kind {
            Kind::LoginMissing | Kind::Refused => Some(LOGIN_HINT),
            Kind::Denied => Some(RIGHTS_HINT),
            Kind::Unavailable | Kind::Timeout | Kind::AuthExpired | Kind::Certificate => None,
        };
        Self::new(kind, with_hint(text, full.or(refused)))
    }
}

/// Whether a login failed because the cluster has no logins at all; Go's client then goes on without one.
pub(super) fn is_auth_disabled(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains("authentication is not enabled"))
}

/// Whether an answer was longer than the client accepts.
pub(super) fn is_too_large(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains("message length too large"))
}

/// Whether an etcd lease of this id exists already.
pub(super) fn is_lease_there(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains("lease already exists"))
}

/// Whether there is no etcd lease of this id.
pub(super) fn is_lease_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains("requested lease not found"))
}

fn kind_of(status: i32, message: &str) -> Kind {
    match status {
        // A change of users or roles on the server makes older tokens invalid with this one.
        code::INVALID_ARGUMENT if message.contains("revision of auth store is old") => {
            Kind::AuthExpired
        }
        // Without a login the request is one of the user "".
        code::INVALID_ARGUMENT if message.contains("user name is empty") => Kind::LoginMissing,
        code::INVALID_ARGUMENT
            if message.contains("user") || message.contains("authentication") =>
        {
            Kind::Refused
        }
        code::PERMISSION_DENIED => Kind::Denied,
        code::RESOURCE_EXHAUSTED if message.contains(NO_SPACE) => Kind::Refused,
        code::UNAUTHENTICATED => Kind::AuthExpired,
        _ => Kind::Unavailable,
    }
}

fn with_hint(text: String, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

/// The messages of an error and of all its causes, without those that say nothing new.
fn chain(first: &str, error: &(dyn StdError + 'static)) -> String {
    // The name of the library that speaks HTTP/2 looks like the name of a host.
    messages(first, error).replace("h2 protocol error", "HTTP/2 error")
}

fn messages(first: &str, error: &(dyn StdError + 'static)) -> String {
    let mut text = first.to_owned();
    for cause in causes(error) {
        let cause = cause.to_string();
        if cause != "transport error" && !text.contains(&cause) {
            text = if text.is_empty() {
                cause
            } else {
                format!("{text}: {cause}")
            };
        }
    }
    text
}

/// Every error below `error`.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(cause(error), |error| cause(*error))
}

/// An `io::Error` hides the error that it was made from: its `source` is that one's source.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn tls_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_mean_what_etcd_means_by_them() {
        for (status, message, kind) in [
            (7, "etcdserver: permission denied", Kind::Denied),
            (
                3,
                "etcdserver: authentication failed, invalid user ID or password",
                Kind::Refused,
            ),
            (3, "etcdserver: user name is empty", Kind::LoginMissing),
            (
                3,
                "etcdserver: revision of auth store is old",
                Kind::AuthExpired,
            ),
            (16, "etcdserver: invalid auth token", Kind::AuthExpired),
            (14, "etcdserver: no leader", Kind::Unavailable),
            (14, "etcdserver: request timed out", Kind::Unavailable),
            (
                8,
                "etcdserver: mvcc: database space exceeded",
                Kind::Refused,
            ),
            (8, "etcdserver: too many requests", Kind::Unavailable),
            (2, "h2 protocol error", Kind::Unavailable),
        ] {
            assert_eq!(kind_of(status, message), kind, "{message}");
        }
    }

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let boxed: Box<dyn StdError> = Box::new(io::Error::other(outer));
        // `causes` starts below the error that it is given.
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Top(#[source] Box<dyn StdError>);
        let top = Top(boxed);
        let found = tls_cause(&top).unwrap();
        assert!(tls_error::describe(found).contains("-etcd-cafile"));
        assert_eq!(
            chain("transport error", &top),
            "transport error: invalid peer certificate: UnknownIssuer"
        );
    }
}
