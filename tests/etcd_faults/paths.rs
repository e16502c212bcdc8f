//! Hosts cut off from etcd: refused, or in silence, in one direction or both.

use lab::Node;

use crate::outage::Outage;
use crate::{Test, options, peers, start};

/// A firewall of its own on the host; `rules` are lines for the chains `out` and `in`.
fn cut(host: &Node, rules: &str) -> Test {
    let script = format!(
        "nft -f - <<END
table inet cut {{
  chain out {{ type filter hook output priority 0; }}
  chain in {{ type filter hook input priority 0; }}
}}
{rules}
END"
    );
    host.sh(&script).map(|_| ())
}

fn mend(host: &Node) -> Test {
    host.sh("nft delete table inet cut").map(|_| ())
}

const RESET: &str = "add rule inet cut out tcp dport 2379 reject with tcp reset
add rule inet cut in tcp sport 2379 reject with tcp reset";
const BLACK_HOLE: &str = "add rule inet cut out tcp dport 2379 drop
add rule inet cut in tcp sport 2379 drop";
const OUTGOING: &str = "add rule inet cut out tcp dport 2379 drop";
const INCOMING: &str = "add rule inet cut in tcp sport 2379 drop";

#[test]
fn a_host_that_is_cut_off_goes_on_and_catches_up() -> Test {
    let ways = [RESET, BLACK_HOLE, OUTGOING, INCOMING];
    let mut lab = start(options(4))?;
    let mut outage = Outage::begin(
        "cut off: reset, black hole, one direction, the other",
        &mut lab,
    )?;
    for (host, rules) in lab.hosts().iter().zip(ways) {
        cut(host.node(), rules)?;
    }
    outage.noticed(&lab);
    outage.was_silent();
    peers::change(&lab)?;
    lab.hosts().iter().try_for_each(|host| mend(host.node()))?;
    outage.ends(&mut lab)
}
