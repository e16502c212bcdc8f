//! Tests whether UDP packets to the VXLAN port of a host arrive, before a daemon runs there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::evidence::Port;
use super::probe::{DATAGRAM, SMALL, is_reported_closed, pause_after, refused};
use flanneld::probe::EchoSocket;
use flanneld::probe::ping::{Timing, ping};
use node_setup::finding::Finding;

/// Sends an echo request and UDP packets to a port of `host`, and judges the answers.
pub async fn underlay(host: IpAddr, port: u16, timing: Timing) -> Finding {
    let (ping, datagrams) = tokio::join!(echo(host, timing), knock(host, port, timing));
    judge(host, port, ping, datagrams)
}

async fn echo(host: IpAddr, timing: Timing) -> Option<Duration> {
    let line = EchoSocket::open(None, host, rand::random()).ok()?;
    ping(&line, 0, SMALL, timing).await.time()
}

async fn knock(host: IpAddr, port: u16, timing: Timing) -> Port {
    let any: IpAddr = match host {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sent = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect((host, port)).await?;
        for attempt in 1..=timing.attempts {
            socket.send(DATAGRAM).await?;
            if is_reported_closed(&socket, pause_after(timing, attempt)).await {
                return Ok(Port::Refused);
            }
        }
        Ok::<_, io::Error>(Port::Silent)
    };
    sent.await.unwrap_or_else(|error| {
        let port = refused(&error);
        // Whatever else keeps this host from sending counts as a missing route.
        if port == Port::Silent {
            Port::NoRoute
        } else {
            port
        }
    })
}

fn judge(host: IpAddr, port: u16, ping: Option<Duration>, datagrams: Port) -> Finding {
    const ID: &str = "underlay-port";
    let open = format!("UDP port {port} open between all hosts, in both directions");
    let time = ping.map(|time| format!("{:.2} ms", time.as_secs_f64() * 1000.0));
    match (datagrams, time) {
        (Port::Refused, _) => Finding::ok(
            ID,
            format!(
                "UDP port {port} of {host} is open: packets arrive, and no program listens there yet"
            ),
        ),
        (Port::Silent, Some(time)) => Finding::warning(
            ID,
            format!("{host} answers a ping ({time}), but nothing answers on UDP port {port}"),
            &format!("{open}; a VXLAN device does not answer either"),
            "if a daemon runs there: rflannel check; otherwise a firewall or security group drops packets to the port",
        ),
        (Port::Silent, None) => Finding::error(
            ID,
            format!("{host} answers neither a ping nor UDP port {port}"),
            &open,
            "check that the host is up and has this address; then look for a firewall, security group, or router between the hosts",
        ),
        (Port::Blocked, _) => Finding::error(
            ID,
            format!("this host's firewall drops packets to UDP port {port}"),
            &open,
            "find the rule with iptables-save and nft list ruleset; remove it, or accept the port before it",
        ),
        (Port::NoRoute | Port::Untried, _) => Finding::error(
            ID,
            format!("this host has no route to {host}"),
            "a route with a next hop that answers",
            "check ip route get and ip neigh",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_setup::finding::Level;

    #[test]
    fn each_outcome_has_its_level_and_words() {
        let host: IpAddr = [10, 64, 0, 2].into();
        let time = Some(Duration::from_millis(1));
        for (ping, port, level, words) in [
            (None, Port::Refused, Level::Ok, "is open"),
            (
                time,
                Port::Silent,
                Level::Warning,
                "answers a ping (1.00 ms)",
            ),
            (None, Port::Silent, Level::Error, "neither a ping"),
            (time, Port::Blocked, Level::Error, "this host's firewall"),
            (None, Port::NoRoute, Level::Error, "no route to 10.64.0.2"),
        ] {
            let finding = judge(host, 8472, ping, port);
            assert!(
                finding.level == level && finding.found.contains(words),
                "{finding:?}"
            );
        }
    }
}
