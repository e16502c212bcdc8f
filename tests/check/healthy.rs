//! Hosts that are well, and questions that cannot be answered.

use crate::tool::rflannel;
use std::thread::sleep;
use std::time::Duration;

use lab::Signal;

use super::Test;
use super::fixture::Bench;

#[test]
fn where_nothing_is_wrong_nothing_is_found() -> Test {
    let bench = Bench::start(3)?;
    let said = bench.check(1, "");
    assert_eq!(
        (said.code, said.document["verdict"].as_str()),
        (0, Some("fine")),
        "{:#}",
        said.document
    );
    assert_eq!(
        said.document["findings"].as_array().map(Vec::len),
        Some(0),
        "{:#}",
        said.document
    );
    for index in [2, 3] {
        said.names(0, &bench.subnet(index), "reached");
    }
    let (code, text) = bench.run(1, ["--all"].into_iter());
    assert_eq!(code, 0, "{text}");
    for words in [
        "check      fine",
        "leases from etcd",
        "2 of 2 reached",
        "overlay, ms",
        &bench.subnet(2),
        "1450",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "no color without a terminal: {text}"
    );
    Ok(())
}

/// By subnet, its key, public address, address in the overlay, and pod; all that is asked is answered.
#[test]
fn a_peer_may_be_named_in_every_way() -> Test {
    let bench = Bench::start(2)?;
    let pod = bench.lab.hosts()[1].pod().unwrap().address.to_string();
    let subnet = bench.subnet(2);
    for name in [
        &subnet,
        &subnet.replace('/', "-"),
        "10.64.0.2",
        "h2",
        &bench.base(2),
        &pod,
    ] {
        let said = bench.check(1, name);
        said.names(0, &subnet, "reached");
        said.says(&[
            "overlay, 1450 bytes: ",
            "checksums: correct",
            "underlay, 10.64.0.1 to 10.64.0.2: ",
        ]);
        assert!(
            !said.document.to_string().contains("no answer"),
            "{:#}",
            said.document
        );
        assert_eq!(
            said.document.to_string().contains(&format!("pod {pod}: ")),
            name == pod,
            "{name}"
        );
    }
    bench
        .check(1, "10.64.0.1")
        .says(&["10.64.0.1 is this host"]);
    let (code, text) = bench.run(1, [subnet.as_str()].into_iter());
    assert!(
        code == 0 && text.contains("- ARP owner") == text.contains("UDP port"),
        "{text}"
    );
    Ok(())
}

#[test]
fn both_families_are_checked() -> Test {
    let bench = Bench::start_with(Bench::options().dual_stack(), 2)?;
    // One in 256 times both chose the same IPv4 subnet at first: what was left of that is gone after 10 s.
    let mut said = bench.check(1, "10.64.0.2");
    for _ in 0..3 {
        if said.code != 0 {
            sleep(Duration::from_secs(5));
            said = bench.check(1, "10.64.0.2");
        }
    }
    let peers = said.document["peers"].as_array().unwrap();
    let reached: Vec<_> = peers
        .iter()
        .filter(|peer| peer["id"] == "reached")
        .collect();
    assert_eq!((said.code, reached.len()), (0, 2), "{:#}", said.document);
    bench.sh(2, "ip6tables -I INPUT -p udp --dport 8472 -j DROP")?;
    let said = bench.check(1, "");
    let causes: Vec<_> = said.document["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| &peer["id"])
        .collect();
    assert_eq!(
        (said.code, causes[0].as_str()),
        (3, Some("reached")),
        "{causes:?}"
    );
    assert_eq!(causes[1], "port-blocked", "{:#}", said.document);
    Ok(())
}

/// Packets flow without it; the exit code tells, as that of `status` does.
#[test]
fn without_a_daemon_it_works_and_says_so() -> Test {
    let mut bench = Bench::start(2)?;
    bench.lab.end_flanneld(1, Signal::TERM)?;
    let said = bench.check_alone(1, "");
    said.names(2, &bench.subnet(2), "reached");
    said.says(&["no daemon answers at", "\"daemon\":\"not-running\""]);
    Ok(())
}

/// The flags are those that the unit would start it with.
#[test]
fn without_a_daemon_the_units_flags_are_used() -> Test {
    let mut bench = Bench::start(2)?;
    let flags = bench.lab.flanneld_args()?.join(" ");
    bench.lab.end_flanneld(1, Signal::TERM)?;
    bench.lab.host(1).write(
        "/run/default/flanneld",
        format!("FLANNEL_OPTIONS=\"{flags}\"\n"),
    )?;
    bench.sh(1, "mount --bind /run/default /etc/default")?;
    let said = bench.check(1, "");
    said.names(2, &bench.subnet(2), "reached");
    said.says(&["\"source\":\"etcd\""]);
    Ok(())
}

/// Etcd is away: leases are those that this host remembers.
#[test]
fn without_etcd_the_state_file_is_used() -> Test {
    let mut bench = Bench::start(2)?;
    let saved = || {
        bench
            .sh(
                1,
                &format!("grep -q {} /run/flannel/state.json", bench.base(2)),
            )
            .is_ok()
    };
    assert!(
        lab::wait_until(super::PATIENCE, saved),
        "the state file is written"
    );
    bench.lab.etcd_mut()?.kill(1)?;
    let said = bench.check(1, "");
    said.names(1, &bench.subnet(2), "reached");
    said.finds(1, "etcd");
    said.says(&["the state file"]);
    Ok(())
}

#[test]
fn mistakes_and_missing_rights_are_no_answers() -> Test {
    let bench = Bench::start(1)?;
    let run = |line: &str| bench.run(1, line.split(' '));
    for line in [
        "--nonsense",
        "no/address",
        "172.30.1.1/24",
        "--timeout=0",
        "-- -etcd-endpoint=x",
    ] {
        let (code, text) = run(line);
        assert_eq!(code, 64, "{line}: {text}");
    }
    let (code, text) = run("--help");
    assert!(code == 0 && text.contains("64  wrong usage"), "{text}");
    let node = bench.lab.host(1);
    let rflannel = rflannel();
    let output = node.run([
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        rflannel,
        "check",
    ])?;
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("run as root"));
    Ok(())
}

#[test]
fn host_without_flannel_lists_what_it_lacks() -> Test {
    let bench = Bench::prepared(2)?;
    let said = bench.check(1, "");
    said.finds(4, "no-flannel");
    said.says(&[
        "host-kernel",
        "host-capabilities",
        "UDP port 8472 is free",
        "\"data_plane\":\"untested\"",
    ]);
    let (code, text) = bench.run(1, ["--underlay", "10.64.0.2"].into_iter());
    assert!(
        code == 0 && text.contains("UDP port 8472 of 10.64.0.2 is open"),
        "{code} {text}"
    );
    bench.drop(2, "input", "udp dport 8472")?;
    let (code, text) = bench.run(1, ["--underlay", "10.64.0.2"].into_iter());
    assert!(
        code == 1 && text.contains("answers a ping"),
        "{code} {text}"
    );
    let (code, text) = bench.run(1, ["--underlay", "10.64.77.77"].into_iter());
    assert!(
        code == 3 && text.contains("neither a ping nor UDP port 8472"),
        "{code} {text}"
    );
    Ok(())
}
