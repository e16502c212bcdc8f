//! Renders the result of a check as JUnit XML for CI systems: a test case for each finding of this host and for each peer. Pure.

use super::render::json::Document;
use node_setup::finding::Finding;
use node_setup::finding::Level;

/// Renders the document as XML.
pub fn render(document: &Document) -> String {
    let host = document
        .findings
        .iter()
        .map(|finding| case("host", finding.id, finding, None));
    let peers = document.peers.iter().map(|peer| {
        let name = peer.host.as_ref().map_or(peer.subnet.clone(), |host| {
            format!("{host} {}", peer.subnet)
        });
        case("peer", &name, &peer.finding, peer.overlay_ms)
    });
    let cases: Vec<String> = host.chain(peers).collect();
    let failures = document
        .all_findings()
        .filter(|finding| finding.level == Level::Error)
        .count();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"rflannel check\" tests=\"{}\" failures=\"{failures}\">\n{}</testsuite>\n",
        cases.len(),
        cases.concat()
    )
}

fn case(class: &str, name: &str, finding: &Finding, time: Option<f64>) -> String {
    let time = time
        .map(|time| format!(" time=\"{:.5}\"", time / 1000.0))
        .unwrap_or_default();
    let head = format!(
        "  <testcase classname=\"{class}\" name=\"{}\"{time}",
        escaped(name)
    );
    let Finding {
        id,
        level,
        found,
        expected,
        fix,
    } = finding;
    let text = escaped(&format!("expected: {expected}; fix: {fix}"));
    match level {
        Level::Ok => format!("{head}/>\n"),
        Level::Warning => {
            format!(
                "{head}><system-out>{id}: {}; {text}</system-out></testcase>\n",
                escaped(found)
            )
        }
        Level::Error => {
            format!(
                "{head}><failure type=\"{id}\" message=\"{}\">{text}</failure></testcase>\n",
                escaped(found)
            )
        }
    }
}

/// Escapes text for XML and replaces characters that XML does not permit.
fn escaped(text: &str) -> String {
    let spelled = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(spelled).collect()
}

#[cfg(test)]
mod tests {
    use super::super::render::json::{ControlPlane, DataPlane, FORMAT, Peer, Verdict};
    use super::*;
    use flanneld::status::report::State;

    #[test]
    fn failures_are_counted_and_text_is_escaped() {
        let peer = |host: &str, finding| Peer {
            host: Some(host.into()),
            subnet: "172.30.5.0/24".into(),
            public_ip: "10.64.0.5".into(),
            finding,
            overlay_ms: Some(0.12),
            underlay_ms: None,
            largest: None,
            trail: Vec::new(),
        };
        let document = Document {
            format: FORMAT,
            verdict: Verdict::Broken,
            subnet: String::new(),
            source: String::new(),
            daemon: State::Fine,
            data_plane: DataPlane::Fails,
            control_plane: ControlPlane::Running,
            findings: vec![Finding::warning("daemon", "a <b>", "c", "d")],
            peers: vec![
                peer(
                    "h5",
                    Finding::error("mtu", "too \"small\"\u{1b}", "x & y", "z"),
                ),
                peer("h6", Finding::ok("reached", "fine")),
            ],
            unexamined: 0,
        };
        let text = render(&document);
        for words in [
            "<testsuite name=\"rflannel check\" tests=\"3\" failures=\"1\">",
            "<system-out>daemon: a &lt;b&gt;; expected: c; fix: d</system-out>",
            "name=\"h5 172.30.5.0/24\" time=\"0.00012\"><failure type=\"mtu\" message=\"too &quot;small&quot; \">expected: x &amp; y; fix: z</failure>",
            "name=\"h6 172.30.5.0/24\" time=\"0.00012\"/>",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
    }
}
