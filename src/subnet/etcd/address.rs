//! Where an etcd member listens, as an operator writes it: pure.

use std::fmt;
use std::net::IpAddr;

use super::Error;

/// One endpoint: scheme, host and port, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Host and port.
    pub(super) authority: String,
    /// Whether the member is spoken to over TLS.
    pub(super) tls: bool,
}

impl Address {
    /// A name, or an address without brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.trim_matches(['[', ']'])
    }

    /// The port that clients use.
    pub(super) fn port(&self) -> u16 {
        self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }

    /// The host, where it is not a name.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// Reads the list of `-etcd-endpoints`. An endpoint without a scheme gets `https` if there are TLS files.
pub(super) fn parse_all(list: &[String], have_tls_files: bool) -> Result<Vec<Address>, Error> {
    if list.is_empty() {
        return Err(Error::Refused("no etcd endpoint given (see -etcd-endpoints)".into()));
    }
    list.iter().map(|text| parse(text.trim(), have_tls_files).map_err(|why| refuse(text, why))).collect()
}

fn refuse(text: &str, why: &str) -> Error {
    Error::Refused(format!(
        "etcd endpoint {text:?}: {why}; write it as https://host:2379, http://host:2379 or host:2379 (see -etcd-endpoints)"
    ))
}

fn parse(text: &str, have_tls_files: bool) -> Result<Address, &'static str> {
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some(_) => return Err("only http and https are known"),
        None => (have_tls_files, text),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    check_authority(authority)?;
    Ok(Address { authority: authority.to_owned(), tls })
}

fn check_authority(authority: &str) -> Result<(), &'static str> {
    if authority.is_empty() {
        return Err("it is empty");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("it has a path, an endpoint is a host and a port only");
    }
    if authority.contains('@') {
        return Err("credentials do not belong here (see -etcd-username)");
    }
    let (host, port) = authority.rsplit_once(':').ok_or("it has no port")?;
    if port.parse::<u16>().map_or(true, |port| port == 0) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("its port is not a number from 1 to 65535");
    }
    if is_host(host) { Ok(()) } else { Err("its host is neither a name nor an address") }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !host.is_empty() && host.bytes().all(named)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, have_tls_files: bool) -> Result<String, String> {
        parse_all(&[text.to_owned()], have_tls_files)
            .map(|list| list[0].to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn endpoints_get_the_scheme_they_mean() {
        for (text, have_tls_files, url) in [
            ("https://a.example:2379", false, "https://a.example:2379"),
            ("HTTP://127.0.0.1:2379/", true, "http://127.0.0.1:2379"),
            ("10.0.0.1:2379", false, "http://10.0.0.1:2379"),
            ("10.0.0.1:2379", true, "https://10.0.0.1:2379"),
            ("[::1]:4001", false, "http://[::1]:4001"),
            (" etcd_1:2379 ", false, "http://etcd_1:2379"),
        ] {
            assert_eq!(read(text, have_tls_files).as_deref(), Ok(url), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_text_and_a_remedy() {
        for (text, why) in [
            ("", "empty"),
            ("https://", "empty"),
            ("unix:///run/etcd", "only http and https"),
            ("http://a:2379/v2", "path"),
            ("http://a", "no port"),
            ("http://a:", "port is not"),
            ("http://a:0", "port is not"),
            ("http://a:+1", "port is not"),
            ("http://a:65536", "port is not"),
            ("http://u:p@a:2379", "credentials"),
            ("a b:2379", "host is neither"),
            ("::1:2379", "host is neither"),
            (":2379", "host is neither"),
        ] {
            let error = read(text, false).unwrap_err();
            assert!(error.contains(why) && error.contains("-etcd-endpoints"), "{text}: {error}");
            assert!(error.contains(&format!("{text:?}")), "{text}: {error}");
        }
        assert!(parse_all(&[], false).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(url) = read(&text, false) {
                proptest::prop_assert_eq!(read(&url, true), Ok(url));
            }
        }
    }
}
