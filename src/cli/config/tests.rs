//! Flags that make a configuration, and what is wrong with others.

use proptest::prelude::*;

use super::super::flanneld::{Mistake, Parsed, parse};
use super::*;

fn read<const N: usize>(line: [&str; N]) -> Result<Config, (&'static str, String)> {
    match parse(line.map(Into::into), []) {
        Parsed::Run(run) => Ok(run.config),
        Parsed::Wrong(Mistake::Value { flag, why, .. }) => Err((flag, why)),
        other @ (Parsed::Show(_) | Parsed::Wrong(_)) => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn defaults_make_a_configuration() {
    let config = read([]).unwrap();
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
        let config = read(["-subnet-file", path]).unwrap();
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
    for (given, why) in [
        ("-etcd-endpoints=", "contains no endpoint"),
        ("-etcd-endpoints= , ,", "contains no endpoint"),
        ("-etcd-endpoints=etcd://a:1", "https://"),
        ("-etcd-prefix=", "empty"),
        ("-etcd-certfile=c", "-etcd-keyfile"),
        ("-etcd-keyfile=k", "-etcd-certfile"),
        ("-etcd-username=u", "-etcd-password"),
        ("-etcd-password=s", "-etcd-username"),
        ("-subnet-lease-renew-margin=0", "out of acceptable range"),
        ("-subnet-lease-renew-margin=1440", "1439"),
        ("-public-ip=224.0.0.1", "unicast"),
        ("-public-ip=255.255.255.255", "unicast"),
        ("-public-ip=fd00::1", "IPv4"),
        ("-iface-regex=eth(", "unclosed group"),
        ("-iface-can-reach=gateway", "address"),
        ("-public-ipv6=10.0.0.1", "IPv6"),
        ("-public-ipv6=fe80::1", "unicast"),
        ("-public-ipv6=::ffff:10.0.0.1", "unicast"),
        ("-iptables-resync=0", "positive number"),
        ("-iptables-resync=-1", "-1"),
        ("-subnet-file=", "file"),
        ("-docker-opts-key=A B", "variable"),
        ("-docker-opts-key=OPTS", "-docker-opts-file"),
        ("-healthz-port=65536", "not a port"),
        ("-probe-interval=-1", "out of range"),
        ("-probe-interval=86401", "out of range"),
        ("-probe-interval=9223372036854775807", "out of range"),
    ] {
        let (flag, message) = read([given]).unwrap_err();
        assert!(given.starts_with(&format!("-{flag}=")), "{given}: {flag}");
        assert!(message.contains(why), "{given}: {message}");
    }
    let (flag, message) = read(["-healthz-ip=localhost", "-healthz-port=80"]).unwrap_err();
    assert!(
        flag == "healthz-ip" && message.contains("0.0.0.0"),
        "{message}"
    );
}

#[test]
fn zero_and_less_mean_no_port_and_no_probes() {
    for line in [
        ["-healthz-port=0", "-probe-interval=0"],
        ["-healthz-ip=anything", "-healthz-port=-1"],
    ] {
        let StatusEndpoints { health, probe, .. } = read(line).unwrap().status_endpoints;
        assert_eq!((health, probe), (None, None), "{line:?}");
    }
    let line = [
        "-healthz-ip=::1",
        "-healthz-port=8471",
        "-probe-interval=60",
    ];
    let StatusEndpoints { health, probe, .. } = read(line).unwrap().status_endpoints;
    assert_eq!(health, Some("[::1]:8471".parse().unwrap()));
    assert_eq!(probe, Some(Duration::from_secs(60)));
}

#[test]
fn a_password_in_an_endpoint_is_refused_and_not_repeated() {
    let (_, why) = read(["-etcd-endpoints=https://root:s3cret@a:2379"]).unwrap_err();
    assert!(!why.contains("s3cret"), "{why}");
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
    let config = read(["-iface=", "-iface=eth0"]).unwrap();
    assert_eq!(config.iface.names, ["eth0"]);
}

#[test]
fn the_summary_is_one_line_without_the_password() {
    let config = read([
        "-etcd-username=root",
        "-etcd-password=s3cret",
        "-docker-opts-file=/run/flannel/docker",
    ]);
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
