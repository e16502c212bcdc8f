//! `/etc/hosts` and `/etc/resolv.conf`: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const DNS_PORT: u16 = 53;
/// As many as glibc asks.
const MOST_SERVERS: usize = 3;

/// Returns the addresses that `/etc/hosts` gives a name. `localhost` has some without.
pub(super) fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found: Vec<IpAddr> = Vec::new();
    for mut words in lines(text, &['#']) {
        let ip: Option<IpAddr> = words.next().and_then(|ip| ip.parse().ok());
        let is_named = words.any(|word| word.eq_ignore_ascii_case(name));
        found.extend(ip.filter(|_| is_named));
    }
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found
}

/// What of `/etc/resolv.conf` counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// A name with fewer dots is tried below the search domains first.
    dots: usize,
}

impl ResolvConf {
    /// Reads the file. Without a server there is one on this host, as for glibc.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
        };
        for mut words in lines(text, &['#', ';']) {
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|ip| ip.parse().ok());
                    conf.servers
                        .extend(server.map(|ip| SocketAddr::new(ip, DNS_PORT)));
                }
                // The last of several counts.
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words
                        .filter_map(|word| word.strip_prefix("ndots:")?.parse().ok())
                        .next_back();
                    conf.dots = dots.unwrap_or(conf.dots);
                }
                _ => {}
            }
        }
        conf.servers.truncate(MOST_SERVERS);
        if conf.servers.is_empty() {
            conf.servers
                .push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
        }
        conf
    }

    /// Returns the names to ask for, in order.
    pub(super) fn names(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        // `search .`, which systemd-resolved writes where there is no domain, adds nothing.
        let domains = self.search.iter().map(|domain| domain.trim_matches('.'));
        let domains = domains.filter(|domain| !domain.is_empty());
        let mut names: Vec<String> = domains.map(|domain| format!("{host}.{domain}")).collect();
        let is_full = host.matches('.').count() >= self.dots;
        let place = if is_full { 0 } else { names.len() };
        names.insert(place, host.to_owned());
        names
    }
}

/// The words of each line, without comments.
fn lines<'a>(
    text: &'a str,
    comment: &'a [char],
) -> impl Iterator<Item = std::str::SplitWhitespace<'a>> {
    let text_of = move |line: &'a str| line.split(comment).next().unwrap_or_default();
    text.lines()
        .map(move |line| text_of(line).split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file_gives_all_addresses_of_a_name() {
        let text = "127.0.0.1 localhost\n# 10.0.0.9 etcd-1\n10.0.0.1\tetcd-1.example ETCD-1 # first\nfd00::1 etcd-1\nx etcd-1\n";
        assert_eq!(
            hosts(text, "etcd-1"),
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "fd00::1".parse().unwrap()
            ]
        );
        assert_eq!(
            hosts(text, "etcd-1.example."),
            ["10.0.0.1".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(hosts(text, "etcd"), [IpAddr::V4(Ipv4Addr::LOCALHOST); 0]);
        assert_eq!(hosts("", "localhost").len(), 2);
    }

    #[test]
    fn names_are_tried_below_the_search_domains() {
        let conf = ResolvConf::parse(
            "; comment\nnameserver 10.0.0.53\nnameserver fd00::53\nnameserver x\nsearch a.example b.example.\noptions rotate ndots:2\n",
        );
        assert_eq!(
            conf.servers,
            [
                "10.0.0.53:53".parse().unwrap(),
                "[fd00::53]:53".parse().unwrap()
            ]
        );
        assert_eq!(
            conf.names("etcd"),
            ["etcd.a.example", "etcd.b.example", "etcd"]
        );
        assert_eq!(
            conf.names("etcd.c"),
            ["etcd.c.a.example", "etcd.c.b.example", "etcd.c"]
        );
        assert_eq!(
            conf.names("etcd.c.example"),
            [
                "etcd.c.example",
                "etcd.c.example.a.example",
                "etcd.c.example.b.example"
            ]
        );
        assert_eq!(conf.names("etcd."), ["etcd"]);
        assert_eq!(
            ResolvConf::parse("").servers,
            ["127.0.0.1:53".parse().unwrap()]
        );
    }
}
