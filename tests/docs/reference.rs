//! The members of the network configuration in `docs/reference/network-configuration.md`, against the code that reads them.

use std::collections::BTreeSet;

use flanneld::backend::{self, HostContext};
use flanneld::iface::{Addresses, Underlay};
use flanneld::kernel::HostState;
use flanneld::subnet::NetworkConfig;
use serde_json::{Map, Value, json};

/// Sources whose texts in capitals and small letters are members, but for those of leases.
const READERS: [&str; 2] = ["src/subnet/net_config.rs", "src/backend/vxlan.rs"];
const OF_LEASES: [&str; 3] = ["BackendData", "BackendV6Data", "VtepMAC"];

/// A row of the tables: name, type, default, limits, and whether it belongs into `Backend`.
struct Member {
    name: String,
    kind: String,
    default: String,
    limits: String,
    in_backend: bool,
}

fn members() -> Vec<Member> {
    let page = crate::read("docs/reference/network-configuration.md");
    let (_, section) = page.split_once("\n## Members\n").unwrap();
    let (network, backend) = section.split_once("\nIn `Backend`:\n").unwrap();
    let backend = backend.split("\n\n").next().unwrap();
    let rows = |text: &str, in_backend| {
        let lines = text
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        lines.into_iter().map(move |line| member(&line, in_backend))
    };
    rows(network, false).chain(rows(backend, true)).collect()
}

fn member(row: &str, in_backend: bool) -> Member {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [name, kind, default, limits] = <[&str; 4]>::try_from(cells).unwrap().map(str::to_owned);
    Member {
        name: name.trim_matches('`').to_owned(),
        kind,
        default,
        limits,
        in_backend,
    }
}

impl Member {
    /// What comes of a configuration with this value for it: subnets and devices, in words.
    fn with(&self, value: Option<Value>) -> Result<String, String> {
        let mut config = Map::new();
        config.insert("Network".into(), json!("172.30.0.0/16"));
        config.insert("EnableIPv6".into(), json!(true));
        config.insert("IPv6Network".into(), json!("fd30::/48"));
        let mut backend = Map::from_iter([("Type".to_owned(), json!("vxlan"))]);
        match value {
            Some(value) if self.in_backend => drop(backend.insert(self.name.clone(), value)),
            Some(value) => drop(config.insert(self.name.clone(), value)),
            None => drop(config.remove(&self.name)),
        }
        config.entry("Backend").or_insert(Value::Object(backend));
        outcome(&Value::Object(config).to_string())
    }
}

fn outcome(json: &str) -> Result<String, String> {
    let config = NetworkConfig::parse(json.as_bytes()).map_err(|error| error.to_string())?;
    let underlay = Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        addresses: Addresses {
            v4: Some([10, 64, 0, 1].into()),
            v6: "fd64::1".parse().ok(),
        },
    };
    let host_state = HostState {
        vxlan_port: 8472,
        ..HostState::default()
    };
    let site = HostContext {
        underlay: &underlay,
        public: underlay.addresses,
        host_state: &host_state,
        published: None,
        machine: "m",
        blackhole: false,
    };
    let backend = backend::new(&config, &site).map_err(|error| error.to_string())?;
    let is_direct = backend::reads_routes(&config);
    Ok(format!(
        "{:?} {} {is_direct} {:?}",
        config.ranges,
        config.nftables,
        backend.links()
    ))
}

/// A value of another type.
fn wrong(kind: &str) -> Value {
    match kind.split(',').next().unwrap_or_default() {
        "number" => json!("24"),
        "boolean" => json!("true"),
        _ => json!(24),
    }
}

#[test]
fn all_members_are_there_and_no_other() {
    let listed: BTreeSet<String> = members().into_iter().map(|member| member.name).collect();
    let is_member = |text: &&str| {
        let named = text.starts_with(char::is_uppercase) && text.chars().all(char::is_alphanumeric);
        named && !OF_LEASES.contains(text)
    };
    let sources: String = READERS.iter().map(|path| crate::read(path)).collect();
    let code = sources
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let texts = code
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(is_member);
    assert_eq!(listed, texts.map(str::to_owned).collect());
}

#[test]
fn each_has_the_type_the_default_and_the_limits_that_are_said() {
    for member in members() {
        let name = &member.name;
        assert!(
            member.with(Some(wrong(&member.kind))).is_err(),
            "{name} is not {}",
            member.kind
        );
        let default = member.default.split([',', ':']).next().unwrap_or_default();
        if let Ok(default @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(default) {
            assert_eq!(member.with(Some(default)), member.with(None), "{name}");
        }
        let most = member
            .limits
            .split(['.', ';', ':'])
            .next()
            .and_then(|limits| limits.rsplit_once("to "));
        if let Some(most) = most.and_then(|(_, most)| most.parse::<u64>().ok()) {
            let over = member.with(Some(json!(most + 1)));
            assert!(
                member.with(Some(json!(most))).is_ok() && over.is_err(),
                "{name}: {over:?}"
            );
        }
    }
}
