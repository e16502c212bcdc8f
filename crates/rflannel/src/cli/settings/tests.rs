//! Settings from flags and variables, and how they are shown.

use super::*;

fn settings(args: &[&str], variables: &[(&str, &str)], source: Source) -> Settings {
    let line = CommandLine {
        args: args.iter().map(OsString::from).collect(),
        variables: variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    };
    of_line(line, source).unwrap()
}

#[test]
fn variables_become_flags_unless_a_flag_is_given() {
    let variables = [
        ("FLANNELD_ETCD_PREFIX", "/env"),
        ("FLANNELD_IFACE", "eth1"),
        ("PATH", "/bin"),
    ];
    let found = settings(
        &["-etcd-prefix=/flag", "-ip-masq"],
        &variables,
        Source::DefaultsFile,
    );
    let flags = found.flags().unwrap();
    let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        flags,
        [
            pair("etcd-prefix", Some("/flag")),
            pair("ip-masq", None),
            pair("iface", Some("eth1"))
        ]
    );
}

#[test]
fn default_endpoints_are_not_asked() {
    assert!(!settings(&[], &[], Source::Defaults).name_etcd());
    assert!(!settings(&["-iface=eth1"], &[], Source::Flags).name_etcd());
    assert!(settings(&["-etcd-endpoints=http://a:1"], &[], Source::Flags).name_etcd());
    let variable = [("FLANNELD_ETCD_ENDPOINTS", "http://a:1")];
    assert!(settings(&[], &variable, Source::Flags).name_etcd());
    assert!(settings(&[], &[], Source::Unit("flanneld.service")).name_etcd());
}

#[test]
fn one_line_names_source_prefix_and_endpoints() {
    let source = Source::Process {
        pid: 7,
        is_complete: true,
    };
    let found = settings(
        &["-etcd-prefix=/net", "-etcd-endpoints=http://a:1"],
        &[],
        source,
    );
    assert_eq!(
        found.one_line(),
        "running daemon (pid 7): prefix /net at http://a:1"
    );
    assert_eq!(
        found.in_json("{\"leases\":[]}\n"),
        "{\"leases\":[],\"settings\":{\"source\":\"daemon\",\"detail\":\"running daemon (pid 7)\",\
         \"endpoints\":[\"http://a:1\"],\"prefix\":\"/net\"}}\n"
    );
}

#[test]
fn several_daemons_are_listed_with_their_sockets() {
    let process = |pid, args: &[&str]| Process {
        pid,
        state: 'S',
        line: CommandLine {
            args: args.iter().map(OsString::from).collect(),
            variables: Vec::new(),
        },
        is_complete: true,
    };
    let all = [
        process(7, &["-etcd-prefix=/a", "-status-socket=/run/a.sock"]),
        process(8, &["-etcd-prefix=/b", "-status-socket=none"]),
    ];
    let text = choices(&all);
    assert!(
        text.contains("--socket /run/a.sock  (pid 7, prefix /a)"),
        "{text}"
    );
    assert!(
        text.contains("pid 8, prefix /b: it has no status socket"),
        "{text}"
    );
}
