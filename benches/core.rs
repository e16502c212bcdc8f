//! The pure parts of the hot path, at N peers. `cargo bench --bench core`.
#![allow(clippy::panic, reason = "a bench that cannot make its input is broken")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use divan::{Bencher, black_box};
use flanneld::backend::{self, Backend, HostContext};
use flanneld::desired::DesiredState;
use flanneld::iface::Underlay;
use flanneld::kernel::decode::{Object, messages};
use flanneld::kernel::encode::encode;
use flanneld::kernel::plan::plan;
use flanneld::kernel::{Entry, HostState, LinkRole, Op};
use flanneld::subnet::alloc::choose;
use flanneld::subnet::{Claim, Lease, LeaseAttrs, LeaseEvent, NetworkConfig, Subnets, key};

const SIZES: [u32; 3] = [100, 1_000, 10_000];

fn main() {
    divan::main();
}

fn config() -> NetworkConfig {
    NetworkConfig::parse(br#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#)
        .unwrap_or_else(|e| panic!("{e}"))
}

fn backend() -> Box<dyn Backend> {
    let underlay = Underlay {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        addresses: IpAddr::from([192, 0, 2, 1]).into(),
    };
    let host_state = HostState::default();
    let site = HostContext {
        underlay: &underlay,
        public: underlay.addresses,
        host_state: &host_state,
        published: None,
        machine: "me",
        blackhole: false,
    };
    backend::new(&config(), &site).unwrap_or_else(|e| panic!("{e}"))
}

/// Key and value as they come from the datastore; number 0 is this host's.
fn record(n: u32) -> (String, String) {
    let [_, a, b, c] = (n + 1).to_be_bytes();
    let value = format!(
        r#"{{"PublicIP":"192.168.{b}.{c}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:01:00:{a:02x}:{b:02x}:{c:02x}"}}}}"#
    );
    (format!("10.{b}.{c}.0-24"), value)
}

fn lease(n: u32) -> Lease {
    let (name, value) = record(n);
    let subnets = key::parse(&name).unwrap_or_else(|e| panic!("{e}"));
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    Lease {
        subnets,
        attrs,
        created: 1,
        modified: 1,
        lease_id: None,
    }
}

fn list(peers: u32) -> Vec<LeaseEvent> {
    let puts = (1..=peers).map(|n| LeaseEvent::Put(lease(n)));
    std::iter::once(LeaseEvent::ListStart)
        .chain(puts)
        .chain([LeaseEvent::ListEnd])
        .collect()
}

fn desired(peers: u32) -> DesiredState {
    let backend = backend();
    let mut desired = DesiredState::new(config(), lease(0), &*backend);
    desired.apply(list(peers), &*backend);
    desired
}

#[divan::bench(args = SIZES)]
fn read_keys_and_values(bencher: Bencher<'_, '_>, peers: u32) {
    let records: Vec<_> = (0..peers).map(record).collect();
    bencher.bench(|| {
        for (name, value) in &records {
            let _ = black_box((key::parse(name), LeaseAttrs::decode(value.as_bytes())));
        }
    });
}

#[divan::bench(args = SIZES)]
fn a_list_becomes_desired(bencher: Bencher<'_, '_>, peers: u32) {
    let backend = backend();
    bencher
        .with_inputs(|| {
            (
                DesiredState::new(config(), lease(0), &*backend),
                list(peers),
            )
        })
        .bench_values(|(mut desired, list)| {
            desired.apply(list, &*backend);
            desired
        });
}

#[divan::bench(args = SIZES)]
fn one_peer_changes(bencher: Bencher<'_, '_>, peers: u32) {
    let backend = backend();
    let mut desired = desired(peers);
    let mut flip = false;
    bencher.bench_local(|| {
        flip = !flip;
        let mut lease = lease(7);
        lease.attrs.public_ip = Some(Ipv4Addr::new(192, 0, 2, 7 + u8::from(flip)));
        let change = desired.apply(vec![LeaseEvent::Put(lease)], &*backend);
        plan(&change.after, &change.before)
    });
}

#[divan::bench(args = SIZES)]
fn plan_when_all_is_right(bencher: Bencher<'_, '_>, peers: u32) {
    let desired = desired(peers);
    let have: Vec<Entry> = desired.entries().into_iter().rev().collect();
    bencher.bench(|| desired.plan(black_box(&have)));
}

#[divan::bench(args = SIZES)]
fn read_a_dump(bencher: Bencher<'_, '_>, peers: u32) {
    let (owned, mut dump) = (backend().owned(), Vec::new());
    for entry in desired(peers).entries() {
        let mut message = encode(&Op::Set(entry), |_| 7);
        message.finalize();
        let start = dump.len();
        dump.resize(start + message.buffer_len(), 0);
        message.serialize(&mut dump[start..]);
    }
    bencher.bench(|| {
        let found = messages(black_box(&dump)).filter_map(|message| Object::read(&message));
        let entry = |object: Object| owned.entry(&object, |_| Some(LinkRole::Overlay));
        found.filter_map(entry).collect::<Vec<Entry>>()
    });
}

#[divan::bench(args = SIZES)]
fn encode_all(bencher: Bencher<'_, '_>, peers: u32) {
    let ops: Vec<Op> = desired(peers).entries().into_iter().map(Op::Set).collect();
    bencher.bench(|| {
        for op in &ops {
            let mut message = encode(op, |_| 7);
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            black_box(bytes);
        }
    });
}

#[divan::bench(args = SIZES)]
fn choose_a_subnet(bencher: Bencher<'_, '_>, peers: u32) {
    let (config, leases) = (config(), (1..=peers).map(lease).collect::<Vec<_>>());
    let attrs = LeaseAttrs {
        public_ip: Some([192, 0, 2, 9].into()),
        ..LeaseAttrs::default()
    };
    let claim = Claim {
        attrs,
        previous: Subnets::default(),
        underlay: BTreeSet::new(),
    };
    bencher.bench(|| choose(&config, &leases, &claim, &mut |below| below / 2));
}
