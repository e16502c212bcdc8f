//! Where etcd listens, as an operator writes it: pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`; `None` without a scheme.
    pub tls: Option<bool>,
    /// Host and port.
    pub authority: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.tls {
            Some(true) => "https://",
            Some(false) => "http://",
            None => "",
        };
        write!(f, "{scheme}{}", self.authority)
    }
}

impl Endpoint {
    /// Reads the list of `-etcd-endpoints`: blanks around an element and empty elements do not count.
    ///
    /// # Errors
    /// What is wrong with which element; the text itself is shown only where it cannot hold a password.
    pub fn parse_list(list: &str) -> Result<Vec<String>, String> {
        let elements = list
            .split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty());
        let endpoints: Result<Vec<_>, _> = elements
            .map(|element| Self::parse(element).map(|endpoint| endpoint.to_string()))
            .collect();
        match endpoints {
            Ok(endpoints) if endpoints.is_empty() => {
                Err("contains no endpoint: set it to the URLs of etcd".into())
            }
            other => other,
        }
    }

    /// Reads one endpoint.
    ///
    /// # Errors
    /// The text, unless it may hold a password, with what is wrong with it and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains('@') {
            return Err(
                "an endpoint must not contain user and password: use -etcd-username and -etcd-password"
                    .into(),
            );
        }
        read(text).map_err(|why| format!("endpoint {text:?} {why}"))
    }

    pub fn is_tls(&self) -> bool {
        self.tls == Some(true)
    }

    /// A name, or an address without brackets.
    pub fn host(&self) -> &str {
        let host = self
            .authority
            .rsplit_once(':')
            .map_or(&*self.authority, |(host, _)| host);
        host.trim_matches(['[', ']'])
    }

    /// The port that clients use.
    pub fn port(&self) -> u16 {
        self.authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or_default()
    }

    /// The host, where it is not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }
}

fn read(text: &str) -> Result<Endpoint, String> {
    if text.contains(';') {
        return Err("contains a semicolon: separate endpoints by commas".into());
    }
    if text.contains(char::is_whitespace) {
        return Err("contains white space: separate endpoints by commas".into());
    }
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
        Some(_) => return Err("must start with http:// or https://".into()),
        None => (None, text),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    check_authority(authority)?;
    Ok(Endpoint {
        tls,
        authority: authority.to_owned(),
    })
}

fn check_authority(authority: &str) -> Result<(), String> {
    if authority.is_empty() {
        return Err("has no host".into());
    }
    if authority.contains(['/', '?', '#']) {
        return Err("has a path: an endpoint consists of a scheme, a host, and a port".into());
    }
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if let Some((host, port)) = authority
        .rsplit_once(':')
        .filter(|(host, _)| host.contains(':') && is_v6(host))
    {
        return Err(format!(
            "has an IPv6 address without brackets: write [{host}]:{port}"
        ));
    }
    if is_v6(authority) {
        return Err(format!(
            "has an IPv6 address without brackets, and no port: write [{authority}]:2379"
        ));
    }
    let no_port =
        || format!("has no port: write {authority}:2379, or the port that etcd listens on");
    let (host, port) = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .ok_or_else(no_port)?;
    if port.parse::<u16>().map_or(true, |port| port == 0)
        || !port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err("has a port that is not a number from 1 to 65535".into());
    }
    if is_host(host) {
        Ok(())
    } else {
        Err("has a host that is neither a name nor an address".into())
    }
}

fn is_host(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => {
            let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !host.is_empty() && host.bytes().all(named)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_however_it_is_spaced() {
        for (list, want) in [
            ("http://a:1,http://b:2", &["http://a:1", "http://b:2"][..]),
            ("http://a:1,http://b:2,", &["http://a:1", "http://b:2"]),
            (" http://a:1 ,\thttp://b:2", &["http://a:1", "http://b:2"]),
            ("http://a:1,,http://b:2", &["http://a:1", "http://b:2"]),
            (
                "HTTP://127.0.0.1:2379/,Https://a:1",
                &["http://127.0.0.1:2379", "https://a:1"],
            ),
            (
                "10.0.0.1:2379,[::1]:4001,etcd_1:2379",
                &["10.0.0.1:2379", "[::1]:4001", "etcd_1:2379"],
            ),
        ] {
            assert_eq!(Endpoint::parse_list(list).unwrap(), want, "{list}");
        }
    }

    #[test]
    fn wrong_element_is_named_with_a_remedy() {
        for (list, why) in [
            ("", "contains no endpoint"),
            (" ,, ", "contains no endpoint"),
            ("https://", "\"https://\" has no host"),
            ("unix:///run/etcd", "must start with http:// or https://"),
            ("http://a:1;http://b:2", "separate endpoints by commas"),
            ("http://a:1 http://b:2", "contains white space"),
            ("http://a:2379/v2", "has a path"),
            ("http://a", "has no port: write a:2379"),
            ("http://[::1]", "has no port: write [::1]:2379"),
            ("http://a:", "port that is not a number"),
            ("http://a:0", "port that is not a number"),
            ("http://a:+1", "port that is not a number"),
            ("http://a:65536", "port that is not a number"),
            (
                "http://fd00::1:2379",
                "IPv6 address without brackets: write [fd00::1]:2379",
            ),
            (
                "fd00:0:0:0:0:0:0:1",
                "IPv6 address without brackets, and no port",
            ),
            ("a:b:1", "neither a name nor an address"),
            (":2379", "neither a name nor an address"),
        ] {
            let error = Endpoint::parse_list(list).unwrap_err();
            assert!(error.contains(why), "{list}: {error}");
        }
    }

    #[test]
    fn host_and_port_are_those_of_the_authority() {
        for (text, host, port) in [("a:1", "a", 1), ("[fd00::1]:2379", "fd00::1", 2379)] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host(), endpoint.port()), (host, port));
        }
    }

    #[test]
    fn password_in_an_endpoint_is_not_repeated() {
        let error = Endpoint::parse_list("https://root:s3cret@a:2379").unwrap_err();
        assert!(
            error.contains("-etcd-username") && !error.contains("s3cret"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                proptest::prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
            }
        }
    }
}
