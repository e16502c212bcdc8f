//! Flags that make a configuration, and what is wrong with others.

use proptest::prelude::*;

use super::*;

fn defaults() -> Flags {
    Flags {
        etcd_endpoints: "http://127.0.0.1:4001,http://127.0.0.1:2379".into(),
        etcd_prefix: "/coreos.com/network".into(),
        etcd_cafile: PathBuf::new(),
        etcd_certfile: PathBuf::new(),
        etcd_keyfile: PathBuf::new(),
        etcd_username: String::new(),
        etcd_password: Secret::new(String::new()),
        ifaces: vec![],
        iface_regexes: vec![],
        iface_can_reach: String::new(),
        public_ip: String::new(),
        public_ipv6: String::new(),
        ip_blackhole_route: false,
        tx_checksum: TxChecksum::Auto,
        subnet_file: "/run/flannel/subnet.env".into(),
        renew_margin: 60,
        docker_opts_file: PathBuf::new(),
        docker_opts_key: "DOCKER_NETWORK_OPTIONS".into(),
        state_file: PathBuf::new(),
        on_lease_lost: OnLeaseLost::Hold,
        ip_masq: false,
        fully_random_disable: false,
        forward_rules: true,
        resync: 5,
        source_filter: false,
        healthz_ip: "0.0.0.0".into(),
        healthz_port: 0,
        status_socket: PathBuf::new(),
        probe_interval: 0,
    }
}

fn with(change: impl FnOnce(&mut Flags)) -> Result<Config, Invalid> {
    let mut flags = defaults();
    change(&mut flags);
    Config::try_from(flags)
}

#[test]
fn defaults_make_a_configuration() {
    let config = with(|_| ()).unwrap();
    assert_eq!(
        config.etcd.endpoints,
        ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
    );
    assert_eq!(config.etcd.renew_margin, Duration::from_secs(3600));
    assert_eq!(
        (config.iface, config.docker_opts),
        (IfaceConfig::default(), None)
    );
    assert_eq!(
        config.state_file,
        Some("/var/lib/flannel/subnet.json".into())
    );
    assert_eq!(
        config.status_endpoints,
        StatusEndpoints {
            status: Some("/run/flannel/subnet.sock".into()),
            ..StatusEndpoints::default()
        }
    );
}

/// Two daemons whose subnet files have one name in two directories share nothing.
#[test]
fn state_file_and_socket_are_named_after_the_whole_path() {
    let names = |path: &str| {
        let config = with(|flags| flags.subnet_file = path.into()).unwrap();
        [config.state_file, config.status_endpoints.status]
            .map(|path| path.unwrap().display().to_string())
    };
    let rows = [
        ("/run/flannel/subnet.env", "subnet"),
        ("/run/flannel//./subnet.env", "subnet"),
        ("/run/flannel/docker.env", "run-flannel-docker.env"),
        ("/a/subnet.env", "a-subnet.env"),
        ("/a-subnet.env", "a\\x2dsubnet.env"),
        ("subnet.env", "subnet.env"),
    ];
    for (path, name) in rows {
        let wanted = [
            format!("/var/lib/flannel/{name}.json"),
            format!("/run/flannel/{name}.sock"),
        ];
        assert_eq!(names(path), wanted, "{path}");
    }
}

#[test]
fn each_broken_flag_is_named() {
    type Row = (&'static str, fn(&mut Flags), &'static str, &'static str);
    let rows: [Row; 23] = [
        (
            "no endpoint",
            |f| f.etcd_endpoints.clear(),
            "etcd-endpoints",
            "contains no endpoint",
        ),
        (
            "commas only",
            |f| f.etcd_endpoints = " , ,".into(),
            "etcd-endpoints",
            "contains no endpoint",
        ),
        (
            "scheme",
            |f| f.etcd_endpoints = "etcd://a:1".into(),
            "etcd-endpoints",
            "https://",
        ),
        ("prefix", |f| f.etcd_prefix.clear(), "etcd-prefix", "empty"),
        (
            "no key",
            |f| f.etcd_certfile = "c".into(),
            "etcd-certfile",
            "-etcd-keyfile",
        ),
        (
            "no cert",
            |f| f.etcd_keyfile = "k".into(),
            "etcd-keyfile",
            "-etcd-certfile",
        ),
        (
            "no password",
            |f| f.etcd_username = "u".into(),
            "etcd-username",
            "-etcd-password",
        ),
        (
            "no user",
            |f| f.etcd_password = Secret::new("s".into()),
            "etcd-password",
            "-etcd-username",
        ),
        (
            "margin 0",
            |f| f.renew_margin = 0,
            "subnet-lease-renew-margin",
            "out of acceptable range",
        ),
        (
            "margin 1440",
            |f| f.renew_margin = 1440,
            "subnet-lease-renew-margin",
            "1439",
        ),
        (
            "multicast",
            |f| f.public_ip = "224.0.0.1".into(),
            "public-ip",
            "unicast",
        ),
        (
            "broadcast",
            |f| f.public_ip = "255.255.255.255".into(),
            "public-ip",
            "unicast",
        ),
        (
            "IPv6",
            |f| f.public_ip = "fd00::1".into(),
            "public-ip",
            "IPv4",
        ),
        (
            "regex",
            |f| f.iface_regexes = vec!["eth(".into()],
            "iface-regex",
            "unclosed group",
        ),
        (
            "name",
            |f| f.iface_can_reach = "gateway".into(),
            "iface-can-reach",
            "address",
        ),
        (
            "IPv4",
            |f| f.public_ipv6 = "10.0.0.1".into(),
            "public-ipv6",
            "IPv6",
        ),
        (
            "link-local",
            |f| f.public_ipv6 = "fe80::1".into(),
            "public-ipv6",
            "unicast",
        ),
        (
            "mapped",
            |f| f.public_ipv6 = "::ffff:10.0.0.1".into(),
            "public-ipv6",
            "unicast",
        ),
        (
            "one check after the other",
            |f| f.resync = 0,
            "iptables-resync",
            "positive number",
        ),
        (
            "before the last",
            |f| f.resync = -1,
            "iptables-resync",
            "-1",
        ),
        (
            "no file",
            |f| f.subnet_file = PathBuf::new(),
            "subnet-file",
            "file",
        ),
        (
            "bad key",
            |f| f.docker_opts_key = "A B".into(),
            "docker-opts-key",
            "variable",
        ),
        (
            "key alone",
            |f| f.docker_opts_key = "OPTS".into(),
            "docker-opts-key",
            "-docker-opts-file",
        ),
    ];
    for (name, change, flag, why) in rows {
        let error = with(change).unwrap_err();
        assert_eq!(error.flag, flag, "{name}");
        assert!(error.why.contains(why), "{name}: {}", error.why);
    }
}

#[test]
fn a_password_in_an_endpoint_is_refused_and_not_repeated() {
    let error = with(|f| f.etcd_endpoints = "https://root:s3cret@a:2379".into()).unwrap_err();
    assert!(!error.why.contains("s3cret"), "{}", error.why);
}

#[test]
fn prefixes_are_normalised() {
    let rows = [
        ("/foo/", "/foo"),
        ("//foo", "/foo"),
        ("foo", "foo"),
        ("/a//b/", "/a/b"),
        ("/", ""),
    ];
    for (given, want) in rows {
        assert_eq!(prefix(given).as_deref(), Ok(want), "{given}");
    }
}

#[test]
fn an_empty_interface_name_means_the_default_one() {
    let config = with(|f| f.ifaces = vec![String::new(), "eth0".into()]).unwrap();
    assert_eq!(config.iface.names, ["eth0"]);
}

#[test]
fn the_summary_is_one_line_without_the_password() {
    let config = with(|f| {
        f.etcd_username = "root".into();
        f.etcd_password = Secret::new("s3cret".into());
        f.docker_opts_file = "/run/flannel/docker".into();
    });
    let line = config.unwrap().to_string();
    assert!(
        line.contains("user=root password=***") && !line.contains("s3cret"),
        "{line}"
    );
    assert!(
        line.contains("docker-opts-file=/run/flannel/docker") && !line.contains('\n'),
        "{line}"
    );
}

proptest! {
    #[test]
    fn a_normal_prefix_stays_as_it_is(text in "[a-c/]{1,12}") {
        let once = prefix(&text).unwrap();
        prop_assert!(!once.contains("//") && !once.ends_with('/'));
        prop_assert_eq!(prefix(&once).unwrap_or_default(), once);
    }
}
