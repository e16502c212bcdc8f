//! What was tried and what came of it, a line each: pure. The trail by which a reader can follow the verdict.

use crate::check::evidence::{Checksum, Echo, PathNames, Port, Probes};
use flanneld::probe::Refusal;

/// The lines.
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
            .map(|left| format!("seen leaving in the tunnel: {}", yes(left))),
    );
    lines.extend(
        probes
            .largest
            .map(|size| format!("largest packet that comes through: {size} bytes")),
    );
    lines.extend(checksum(probes.checksum));
    if let Some(became) = datagram(probes.port) {
        lines.push(format!("UDP port {port} of {public}: {became}"));
        lines.push(format!("frame made by hand: {}", answered(probes.handmade)));
        lines.push(format!(
            "the same, to be answered by the underlay: {}",
            answered(probes.by_underlay)
        ));
        let owner = probes
            .owner
            .map_or_else(|| "nobody says so".to_owned(), |mac| format!("MAC {mac}"));
        lines.push(format!("who has {address} in the tunnel: {owner}"));
    }
    lines
}

fn spell(echo: Echo) -> Option<String> {
    Some(match echo {
        Echo::Untried => return None,
        Echo::Refused(why) => format!("not sent, {}", refusal(why)),
        Echo::Silent => "no answer".into(),
        Echo::AtNic => "the answer came to this host's interface, and no further".into(),
        Echo::AtDevice => "the answer came to the overlay's device, and no further".into(),
        Echo::Answered(time) => format!("{:.2} ms", time.as_secs_f64() * 1000.0),
    })
}

fn refusal(why: Refusal) -> String {
    match why {
        Refusal::Blocked => "this host's firewall forbids it".into(),
        Refusal::NoRoute => "there is no way".into(),
        Refusal::NoAddress => "this host does not have the address".into(),
        Refusal::TooLong => "longer than the device's MTU".into(),
        Refusal::Other(number) => std::io::Error::from_raw_os_error(number).to_string(),
    }
}

fn datagram(port: Port) -> Option<&'static str> {
    match port {
        Port::Untried => None,
        Port::Silent => Some("says nothing, as it should"),
        Port::Refused => Some("nobody listens"),
        Port::Blocked => Some("not sent, this host's firewall forbids it"),
        Port::NoRoute => Some("not sent, there is no way"),
    }
}

fn checksum(checksum: Checksum) -> Option<String> {
    match checksum {
        Checksum::Unknown => None,
        Checksum::Right => Some("checksums: right".into()),
        Checksum::Wrong => Some("checksums: wrong".into()),
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn answered(is: bool) -> &'static str {
    if is { "answered" } else { "no answer" }
}
