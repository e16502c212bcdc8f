//! Describes each probe and its result in one line, so that a reader can follow the verdict. Pure.

use crate::check::evidence::{Checksum, Echo, PathNames, Port, Probes};
use flanneld::probe::Refusal;

pub(in crate::check) fn lines(names: &PathNames, probes: &Probes) -> Vec<String> {
    let PathNames {
        address,
        public,
        local,
        mtu,
        port,
        ..
    } = names;
    let mut lines = Vec::new();
    let mut echo = |what: String, echo: Echo| {
        lines.extend(spell(echo).map(|became| format!("{what}: {became}")));
    };
    echo(format!("overlay, to {address}"), probes.overlay);
    echo(format!("overlay, {mtu} bytes"), probes.full);
    if let Some(pod) = names.pod {
        echo(format!("pod {pod}"), probes.pod);
    }
    echo(format!("underlay, {local} to {public}"), probes.underlay);
    echo(
        format!("underlay, any address to {public}"),
        probes.any_source,
    );
    if probes.port == Port::Untried && probes.by_underlay {
        lines.push(format!("from {local} to {address}: answered"));
    }
    lines.extend(
        probes
            .left
            .map(|left| format!("request left through the tunnel: {}", yes(left))),
    );
    lines.extend(
        probes
            .largest
            .map(|size| format!("largest packet that passes: {size} bytes")),
    );
    lines.extend(checksum(probes.checksum));
    if let Some(became) = datagram(probes.port) {
        lines.push(format!("UDP port {port} of {public}: {became}"));
        lines.push(format!(
            "handmade VXLAN frame: {}",
            answered(probes.handmade)
        ));
        lines.push(format!(
            "handmade VXLAN frame, reply over the underlay: {}",
            answered(probes.by_underlay)
        ));
        let owner = probes
            .owner
            .map_or_else(|| "no answer".to_owned(), |mac| format!("MAC {mac}"));
        lines.push(format!("ARP owner of {address} in the tunnel: {owner}"));
    }
    lines
}

fn spell(echo: Echo) -> Option<String> {
    Some(match echo {
        Echo::Untried => return None,
        Echo::Refused(why) => format!("not sent: {}", refusal(why)),
        Echo::Silent => "no answer".into(),
        Echo::AtNic => "the reply reached this host's interface, but no further".into(),
        Echo::AtDevice => "the reply reached the overlay device, but no further".into(),
        Echo::Answered(time) => format!("{:.2} ms", time.as_secs_f64() * 1000.0),
    })
}

fn refusal(why: Refusal) -> String {
    match why {
        Refusal::Blocked => "blocked by this host's firewall".into(),
        Refusal::NoRoute => "no route".into(),
        Refusal::NoAddress => "this host does not have the source address".into(),
        Refusal::TooLong => "larger than the device's MTU".into(),
        Refusal::Other(number) => std::io::Error::from_raw_os_error(number).to_string(),
    }
}

fn datagram(port: Port) -> Option<&'static str> {
    match port {
        Port::Untried => None,
        Port::Silent => Some("no answer, as expected"),
        Port::Refused => Some("closed"),
        Port::Blocked => Some("not sent: blocked by this host's firewall"),
        Port::NoRoute => Some("not sent: no route"),
    }
}

fn checksum(checksum: Checksum) -> Option<String> {
    match checksum {
        Checksum::Unknown => None,
        Checksum::Right => Some("checksums: correct".into()),
        Checksum::Wrong => Some("checksums: wrong".into()),
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn answered(is: bool) -> &'static str {
    if is { "answered" } else { "no answer" }
}
