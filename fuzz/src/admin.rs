//! Any text where an administrator's tools read one: what subnets are named, what a lease, a record or the configuration holds, and
//! what a bundle would carry away. Nothing panics, and a password is taken out whatever stands around it.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use flanneld::subnet::etcd::dump::{Dump, Record};
use rflannel::admin::redact::{Redactor, secrets_in};
use rflannel::admin::{Inventory, lookup, network, plan, show};

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new([]).unwrap());

fn record(name: &str, value: &[u8]) -> Record {
    Record {
        name: name.to_owned(),
        value: value.to_vec(),
        created: 1,
        modified: 1,
        lease_id: None,
    }
}

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let planted = REDACTOR.redact(&format!(
        "{text}\nFLANNELD_ETCD_PASSWORD=hunter2hunter2\n{text}"
    ));
    assert!(!planted.contains("hunter2hunter2") || text.contains("hunter2"));
    let _ = secrets_in(&text);

    let (name, value) = text.split_once('\n').unwrap_or((text.as_ref(), ""));
    let dump = Dump {
        prefix: "/net".into(),
        config: Some(record(
            "config",
            br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
        )),
        leases: vec![
            record(name, value.as_bytes()),
            record("10.5.7.0-24", value.as_bytes()),
        ],
        owners: vec![record(name, value.as_bytes())],
        revision: 2,
    };
    let config = dump.config.clone();
    let inventory = Inventory::read(dump, &BTreeMap::new(), Duration::from_secs(3600));
    assert!(!show::table(&inventory).contains('\x1b') && show::json(&inventory).ends_with("}\n"));
    if let Ok(plan) = network::change(&inventory, config.as_ref(), value.as_bytes()) {
        let _ = network::text(&inventory, &plan);
    }
    if let (Ok(entry), Ok(to)) = (lookup::entry(&inventory, name), lookup::subnets(value)) {
        let plans = [
            plan::reserve(entry),
            plan::release(entry),
            plan::relocate(&inventory, entry, to),
        ];
        for plan in plans.into_iter().flatten() {
            let _ = show::steps(&inventory, &plan, false);
        }
    }
}
