//! How much is logged, and that programs can read it.

use rustix::io::Errno;
use serde_json::Value;

use super::meddling::Meddling;
use super::stage::{Stack, Stage, Step, in_virtual_time, lease, listed, with_daemon};
use crate::kernel::fake::FakeNetlink;
use crate::kernel::{Entry, LinkRole};
use crate::util::logging::json_lines;

/// More than the lines that one batch of changes may cost.
const PEERS: u8 = 200;

/// A start with many peers, and the repair of the device with all that was on it.
fn log(verbosity: i64) -> Vec<Value> {
    json_lines(verbosity, || {
        in_virtual_time(with_daemon(
            &FakeNetlink::new(),
            Stack::V4,
            None,
            async |stage: &mut Stage| {
                let peers = (2..PEERS + 2).map(|n| lease(n, n, n, n.into()));
                stage.events(listed(peers)).await;
                stage.play(Step::Wait(1_000)).await;
                let device = Meddling::DeleteDevice(LinkRole::Overlay);
                stage.play(Step::Meddle(device)).await;
                stage.play(Step::Wait(31_000)).await;
                stage.assert_right();
            },
        ));
    })
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

#[test]
fn many_peers_and_repairs_log_a_handful_of_lines() {
    let lines = log(0);
    assert!(lines.len() < 15, "{lines:#?}");
    let joined = lines
        .iter()
        .find(|line| message(line).contains("peers joined"));
    assert_eq!(joined.map(|line| &line["count"]), Some(&PEERS.into()));
    let repairs: Vec<&Value> = lines
        .iter()
        .filter(|line| message(line).starts_with("repaired: "))
        .collect();
    let [repair] = repairs[..] else {
        panic!("{lines:#?}");
    };
    let count = repair["count"].as_u64().unwrap_or_default();
    assert!(count > PEERS.into(), "{repair}");
    let entries = repair["entry"].as_str().unwrap_or_default();
    assert_eq!(
        entries.matches("set ").count(),
        3,
        "the first ones: {repair}"
    );
}

#[test]
fn each_entry_is_logged_from_verbosity_1_on() {
    let lines = log(1);
    let routes: Vec<&Value> = lines
        .iter()
        .filter(|line| message(line).starts_with("set route "))
        .collect();
    assert!(routes.len() >= 2 * usize::from(PEERS), "{}", routes.len());
    assert!(
        routes
            .iter()
            .all(|line| line["level"] == "DEBUG" && line["entry"].is_string())
    );
}

#[test]
fn many_refused_writes_log_the_first_ones_and_a_count() {
    let lines = json_lines(0, || {
        in_virtual_time(with_daemon(
            &FakeNetlink::new(),
            Stack::V4,
            None,
            async |stage: &mut Stage| {
                stage.kernel.with(|world| {
                    let is_route: fn(&Entry) -> bool = |entry| matches!(entry, Entry::Route { .. });
                    world.refuses = Some((is_route, Errno::ACCESS));
                });
                let peers = (2..PEERS + 2).map(|n| lease(n, n, n, n.into()));
                stage.events(listed(peers)).await;
                stage.play(Step::Wait(1)).await;
            },
        ));
    });
    let named = lines
        .iter()
        .filter(|line| message(line).starts_with("cannot set route "));
    assert_eq!(named.count(), 3, "{lines:#?}");
    let rest = lines
        .iter()
        .find(|line| message(line).contains("more kernel writes failed"));
    assert_eq!(rest.map(|line| &line["count"]), Some(&(PEERS - 3).into()));
}
