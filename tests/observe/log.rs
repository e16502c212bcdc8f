//! The log as JSON.

use lab::wait_until;
use serde_json::Value;

use super::host::{Host, NETWORK, lease_key, lease_value};
use super::{SOON, Test};

#[test]
fn json_log_has_values_as_fields() -> Test {
    let host = Host::start_with(NETWORK, &["-log-format=json"])?;
    let broken = lease_value(9).replace("10.64.9.9", "127.0.0.1");
    host.lab.etcd()?.put(&lease_key(9), broken)?;
    assert!(wait_until(SOON, || host.log_contains("is not used")));
    let log = host.node().read("/run/flanneld.log")?;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let field = |message: &str, name: &str| {
        let starts = |line: &&Value| line["message"].as_str().unwrap().starts_with(message);
        let line = lines.iter().find(starts).unwrap();
        line[name].as_str().unwrap().to_owned()
    };
    assert_eq!(field("Found network config", "backend"), "vxlan");
    assert_eq!(field("Using interface", "dev"), "eth0");
    assert!(field("Lease acquired", "subnet").starts_with("172.30."));
    assert!(field("Wrote subnet file", "path").ends_with("subnet.env"));
    assert_eq!(field("lease ", "peer"), "172.30.209.0/24");
    assert!(field("lease ", "err").contains("127.0.0.1"));
    Ok(())
}
