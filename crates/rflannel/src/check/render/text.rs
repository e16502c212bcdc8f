//! Renders the result of a check as text. Pure.

use crate::check::render::json::{ControlPlane, DataPlane, Document, Peer, Verdict};
use flanneld::status::summary::plain;
use flanneld::util::table::align;
use node_setup::finding::Finding;
use node_setup::finding::{self, Level};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Show a table of all peers.
    pub all: bool,
    /// Show each probe of each peer.
    pub trail: bool,
}

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";
/// Column in which the text of a finding begins.
const INDENT: usize = 11;

/// Renders the whole result; `settings` says where the settings come from.
pub fn render(document: &Document, settings: &str, style: Style) -> String {
    let mut lines = vec![
        headline(document, style),
        format!("settings   {}", plain(settings)),
    ];
    if !document.subnet.is_empty() {
        lines.push(format!(
            "host       {}, leases from {}",
            document.subnet, document.source
        ));
    }
    lines.extend(
        document
            .findings
            .iter()
            .flat_map(|finding| told(finding, style)),
    );
    lines.extend(reached(document));
    if style.all {
        lines.extend(table(&document.peers, style));
    }
    // The finding `underlay-link` covers all peers.
    let has_own_link = document
        .findings
        .iter()
        .any(|finding| finding.id == "underlay-link");
    let is_shown = |peer: &&Peer| style.trail || !peer.is_reached() && !has_own_link;
    let mut shown: Vec<&Peer> = document.peers.iter().filter(is_shown).collect();
    shown.sort_by_key(|peer| (peer.finding.id, &peer.finding.expected, &peer.finding.fix));
    for alike in shown.chunk_by(|one, other| advice(&one.finding) == advice(&other.finding)) {
        lines.extend(alike.iter().flat_map(|peer| of_peer(peer, style)));
        lines.extend(
            alike
                .first()
                .into_iter()
                .flat_map(|peer| advice(&peer.finding)),
        );
    }
    let summary = finding::summary(document.all_findings());
    lines.push(format!("summary    {summary}"));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn headline(document: &Document, style: Style) -> String {
    let (word, color) = match document.verdict {
        Verdict::Fine => ("fine", GREEN),
        Verdict::Degraded => ("degraded", YELLOW),
        Verdict::NotRunning => ("not running", YELLOW),
        Verdict::Hung => ("hung", YELLOW),
        Verdict::Broken => ("broken", RED),
        Verdict::Unknown => ("unknown", RED),
    };
    let packets = match document.data_plane {
        DataPlane::Passes => "packets pass",
        DataPlane::Fails => "not all packets pass",
        DataPlane::Untested => "no packets were sent",
    };
    let daemon = match (document.control_plane, document.verdict) {
        (ControlPlane::Running, Verdict::Degraded) => "something needs attention",
        (ControlPlane::Running, Verdict::Broken) if document.data_plane == DataPlane::Passes => {
            "this host's lease has a problem"
        }
        (ControlPlane::Running, _) => "",
        (ControlPlane::NotReady, _) => "the daemon is not ready",
        (ControlPlane::Hung, _) => "the daemon does not answer",
        (ControlPlane::Stopped, _) => "no daemon runs",
    };
    let conjunction = match document.data_plane {
        DataPlane::Passes => "but",
        DataPlane::Fails | DataPlane::Untested => "and",
    };
    let words = match (document.verdict, daemon) {
        (Verdict::Fine, _) => word.to_owned(),
        (_, "") => format!("{word}: {packets}"),
        (_, daemon) => format!("{word}: {packets}, {conjunction} {daemon}"),
    };
    format!("check      {}", paint(&words, color, style))
}

fn reached(document: &Document) -> Option<String> {
    let asked = document.peers.len() + document.unexamined;
    let reached = document
        .peers
        .iter()
        .filter(|peer| peer.is_reached())
        .count();
    let more = match document.unexamined {
        0 => String::new(),
        rest => format!(
            "; {rest} unreachable peers were not examined (examine one: rflannel check PEER)"
        ),
    };
    (asked > 0).then(|| format!("peers      {reached} of {asked} reached{more}"))
}

pub fn finding(finding: &Finding, style: Style) -> String {
    told(finding, style)
        .into_iter()
        .map(|line| line + "\n")
        .collect()
}

fn told(finding: &Finding, style: Style) -> Vec<String> {
    std::iter::once(head(finding, "", style))
        .chain(advice(finding))
        .collect()
}

/// Renders a peer and its probes. The advice is printed once for all peers with the same problem.
fn of_peer(peer: &Peer, style: Style) -> Vec<String> {
    let address = format!("{} at {}", peer.subnet, peer.public_ip);
    let whom = peer
        .host
        .as_ref()
        .map_or(address.clone(), |host| format!("{host} ({address})"));
    let head = head(&peer.finding, &format!("{}: ", plain(&whom)), style);
    let trail = peer.trail.iter().filter(|_| style.trail);
    std::iter::once(head)
        .chain(trail.map(|line| format!("{:INDENT$}- {}", "", plain(line))))
        .collect()
}

fn head(finding: &Finding, whom: &str, style: Style) -> String {
    let Finding {
        id, level, found, ..
    } = finding;
    let (word, color) = match level {
        Level::Ok => ("ok", GREEN),
        Level::Warning => ("warning", YELLOW),
        Level::Error => ("error", RED),
    };
    let head = format!(
        "{}{:2$}{whom}",
        paint(word, color, style),
        "",
        INDENT - word.len()
    );
    match level {
        Level::Ok if whom.is_empty() => format!("{head}{}", plain(found)),
        Level::Ok => format!("{head}reached"),
        Level::Warning | Level::Error => {
            format!("{head}{}: {}", paint(id, color, style), plain(found))
        }
    }
}

fn advice(finding: &Finding) -> Vec<String> {
    let texts = [("expected", &finding.expected), ("fix", &finding.fix)];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    texts
        .map(|(name, text)| format!("{:INDENT$}{name}: {}", "", plain(text)))
        .collect()
}

/// Renders the table of `--all`.
fn table(peers: &[Peer], style: Style) -> Vec<String> {
    let heading = [
        "host",
        "peer",
        "address",
        "underlay, ms",
        "overlay, ms",
        "largest",
        "verdict",
    ]
    .map(str::to_owned);
    let rows = align(std::iter::once(heading.to_vec()).chain(peers.iter().map(row)));
    let colors = peers
        .iter()
        .map(|peer| if peer.is_reached() { GREEN } else { RED });
    rows.iter()
        .zip(std::iter::once("").chain(colors))
        .map(|(row, color)| paint(row, color, style))
        .collect()
}

fn row(peer: &Peer) -> Vec<String> {
    let time = |time: Option<f64>| time.map_or_else(|| "·".to_owned(), |time| format!("{time:.2}"));
    let largest = peer
        .largest
        .map_or_else(|| "·".to_owned(), |size| size.to_string());
    vec![
        peer.host
            .as_ref()
            .map_or_else(|| "·".to_owned(), |host| plain(host)),
        peer.subnet.clone(),
        peer.public_ip.clone(),
        time(peer.underlay_ms),
        time(peer.overlay_ms),
        largest,
        peer.finding.id.to_owned(),
    ]
}

fn paint(text: &str, color: &str, style: Style) -> String {
    if style.color && !color.is_empty() {
        format!("{color}{text}{PLAIN}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::check::render::json::FORMAT;
    use flanneld::status::report::State;

    const SETTINGS: &str =
        "running daemon (pid 4711): prefix /coreos.com/network at https://10.64.3.7:2379";

    fn document() -> Document {
        let peer = |n: u8, finding, overlay_ms, largest| Peer {
            host: (n == 5).then(|| "h5".to_owned()),
            subnet: format!("172.30.{n}.0/24"),
            public_ip: format!("10.64.0.{n}"),
            finding,
            overlay_ms,
            underlay_ms: Some(0.05),
            largest,
            trail: vec!["overlay, to 172.30.5.0: no answer\u{1b}[2J".into()],
        };
        Document {
            format: FORMAT,
            verdict: Verdict::Broken,
            subnet: "172.30.15.0/24".into(),
            source: "etcd".into(),
            daemon: State::Degraded,
            data_plane: DataPlane::Fails,
            control_plane: ControlPlane::Running,
            findings: vec![Finding::warning(
                "daemon",
                "1 lease is not used",
                "none",
                "rflannel status",
            )],
            peers: vec![
                peer(
                    5,
                    Finding::error("port-blocked", "silent\u{1b}[2J", "open", "the firewall"),
                    None,
                    None,
                ),
                peer(9, Finding::ok("reached", "reached"), Some(0.12), Some(1450)),
            ],
            unexamined: 3,
        }
    }

    #[test]
    fn last_line_counts_and_names_what_is_wrong() {
        let last = |document: &Document| {
            let text = render(document, SETTINGS, Style::default());
            text.lines().last().unwrap_or_default().to_owned()
        };
        let mut document = document();
        assert_eq!(
            last(&document),
            "summary    1 error, 1 warning: port-blocked, daemon"
        );
        document.findings.clear();
        document.peers.remove(0);
        assert_eq!(last(&document), "summary    no errors, no warnings");
    }

    #[test]
    fn output_matches_golden_file() {
        let style = |all, trail| Style {
            all,
            trail,
            color: false,
        };
        let texts = [style(false, false), style(true, false), style(false, true)];
        let text = texts
            .map(|style| render(&document(), SETTINGS, style))
            .join("\n");
        expect_file!["../../../tests/golden/check.txt"].assert_eq(&text);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn color_adds_only_color() {
        let plain = Style {
            all: true,
            trail: true,
            color: false,
        };
        let colorful = render(
            &document(),
            SETTINGS,
            Style {
                color: true,
                ..plain
            },
        );
        assert!(
            colorful.contains("\x1b[31mport-blocked\x1b[0m"),
            "{colorful}"
        );
        let stripped = [RED, YELLOW, GREEN, PLAIN]
            .iter()
            .fold(colorful, |text, code| text.replace(code, ""));
        assert_eq!(stripped, render(&document(), SETTINGS, plain));
    }
}
