//! Where an etcd member listens, and whether it is spoken to over TLS: pure.

use std::fmt;
use std::net::IpAddr;

use super::Error;
use crate::config::Endpoint;

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
        let host = self
            .authority
            .rsplit_once(':')
            .map_or(&*self.authority, |(host, _)| host);
        host.trim_matches(['[', ']'])
    }

    /// The port that clients use.
    pub(super) fn port(&self) -> u16 {
        self.authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or_default()
    }

    /// The host, where it is not a name.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.authority
        )
    }
}

/// Reads checked endpoints. One without a scheme gets `https` if there are TLS files.
pub(super) fn parse_all(list: &[String], have_tls_files: bool) -> Result<Vec<Address>, Error> {
    if list.is_empty() {
        return Err(Error::Refused(
            "no etcd endpoint given (see -etcd-endpoints)".into(),
        ));
    }
    let read = |text: &String| match Endpoint::parse(text) {
        Ok(Endpoint { tls, authority }) => Ok(Address {
            authority,
            tls: tls.unwrap_or(have_tls_files),
        }),
        Err(why) => Err(Error::Refused(format!("-etcd-endpoints: {why}"))),
    };
    list.iter().map(read).collect()
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
        ] {
            assert_eq!(read(text, have_tls_files).as_deref(), Ok(url), "{text}");
        }
        assert!(read("a", false).unwrap_err().contains("-etcd-endpoints"));
        assert!(parse_all(&[], false).is_err());
    }

    #[test]
    fn host_and_port_are_those_of_the_authority() {
        for (text, host, port) in [("a:1", "a", 1), ("[fd00::1]:2379", "fd00::1", 2379)] {
            let address = &parse_all(&[text.to_owned()], false).unwrap()[0];
            assert_eq!((address.host(), address.port()), (host, port));
        }
    }
}
