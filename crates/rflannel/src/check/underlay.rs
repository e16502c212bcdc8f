//! Tests whether UDP packets to the VXLAN port of a host arrive, before a daemon runs there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use flanneld::probe::ping::{Outcome, Timing, ping};
use flanneld::probe::{EchoSocket, Refusal, is_refused};
use node_setup::finding::Finding;

/// Length of an echo request.
const SMALL: u32 = 84;

/// Result of packets to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    /// The host reports that the port is closed, so packets arrive.
    Arrives,
    /// No answer. A VXLAN device does not answer, and neither does a firewall.
    Silent,
    /// This host does not send them.
    NotSent(Refusal),
}

/// Sends an echo request and UDP packets to a port of `host`, and judges the answers.
pub async fn underlay(host: IpAddr, port: u16, timing: Timing) -> Finding {
    let (ping, datagrams) = tokio::join!(echo(host, timing), knock(host, port, timing));
    judge(host, port, ping, datagrams)
}

async fn echo(host: IpAddr, timing: Timing) -> Option<Duration> {
    let line = EchoSocket::open(None, host, rand::random()).ok()?;
    match ping(&line, 0, SMALL, timing).await {
        Outcome::Answered(time) => Some(time),
        Outcome::Silent | Outcome::Refused(_) => None,
    }
}

async fn knock(host: IpAddr, port: u16, timing: Timing) -> Port {
    let any: IpAddr = if host.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0_u16; 8].into()
    };
    let connected = async {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(SocketAddr::new(host, port)).await?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = match connected.await {
        Ok(socket) => socket,
        Err(error) => return Port::NotSent(Refusal::from(&error)),
    };
    for attempt in 1..=timing.attempts {
        match socket.send(b"rflannel check").await {
            Err(error) if is_refused(&error) => return Port::Arrives,
            Err(error) => return Port::NotSent(Refusal::from(&error)),
            Ok(_) => {}
        }
        let pause = if attempt == timing.attempts {
            timing.patience
        } else {
            timing.gap
        };
        let replies = timeout(pause, socket.recv(&mut [0; 1])).await;
        if replies.is_ok_and(|replies| replies.is_err_and(|error| is_refused(&error))) {
            return Port::Arrives;
        }
    }
    Port::Silent
}

fn judge(host: IpAddr, port: u16, ping: Option<Duration>, datagrams: Port) -> Finding {
    const ID: &str = "underlay-port";
    let open = format!("UDP port {port} open between all hosts, in both directions");
    let time = ping.map(|time| format!("{:.2} ms", time.as_secs_f64() * 1000.0));
    match (datagrams, time) {
        (Port::Arrives, _) => Finding::ok(
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
        (Port::NotSent(Refusal::Blocked), _) => Finding::error(
            ID,
            format!("this host's firewall drops packets to UDP port {port}"),
            &open,
            "find the rule with iptables-save and nft list ruleset; remove it, or accept the port before it",
        ),
        (Port::NotSent(_), _) => Finding::error(
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
            (None, Port::Arrives, Level::Ok, "is open"),
            (
                time,
                Port::Silent,
                Level::Warning,
                "answers a ping (1.00 ms)",
            ),
            (None, Port::Silent, Level::Error, "neither a ping"),
            (
                time,
                Port::NotSent(Refusal::Blocked),
                Level::Error,
                "this host's firewall",
            ),
            (
                None,
                Port::NotSent(Refusal::NoRoute),
                Level::Error,
                "no route to 10.64.0.2",
            ),
        ] {
            let finding = judge(host, 8472, ping, port);
            assert!(
                finding.level == level && finding.found.contains(words),
                "{finding:?}"
            );
        }
    }
}
