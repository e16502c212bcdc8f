//! Any text as what iptables-save or nft prints, any bytes as a notification: read without a panic, and what is deleted was there.

use flanneld::firewall::iptables::{self, Table};
use flanneld::firewall::nft;
use flanneld::firewall::rule::{forward, masquerade};
use flanneld::firewall::{Tunnel, notification};
use flanneld::subnet::Overlay;
use flanneld::util::family::Family;

pub fn run(bytes: &[u8]) {
    let _ = notification::concerns(bytes);
    let text = String::from_utf8_lossy(bytes);
    let overlay = Overlay {
        network: "10.5.0.0/16".parse().unwrap(),
        subnet: "10.5.33.0/24".parse().unwrap(),
    };
    let (mine, wanted) = ([overlay.network], masquerade(overlay, true));
    let lines = Table::read(&text, "nat").difference(iptables::POSTROUTING, &wanted, &mine);
    assert!(
        lines
            .iter()
            .filter_map(|line| line.strip_prefix("-D "))
            .all(|rule| text.contains(rule))
    );

    let desired = [
        (nft::POSTROUTING, wanted),
        (nft::FORWARD, forward(overlay.network)),
    ];
    let table = nft::Table::read(&text);
    let _ = nft::difference(&nft::table(Family::V4), Some(&table), &desired, &mine, true);
    let _ = Tunnel { port: 8472, vni: 1 }
        .difference(Some(&text), Some(&[[192, 0, 2, 1].into()].into()));
}
