//! What the health port answers: pure. First lines and codes are flannel's; reasons follow on lines of their own.

use std::time::Duration;

use super::report::{Report, State};
use super::summary::plain;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) code: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    fn text(code: u16, body: impl Into<String>) -> Self {
        Self {
            code,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// Metrics in Prometheus' text format.
    pub(super) fn metrics(body: String) -> Self {
        Self {
            code: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body,
        }
    }

    pub(super) fn not_found() -> Self {
        Self::text(404, "404 page not found\n")
    }
}

/// Liveness: a daemon that waits, for etcd or for anything else, lives. Only one whose loop no longer turns does not.
pub(super) fn healthz(alive: Result<(), Duration>) -> Page {
    match alive {
        Ok(()) => Page::text(200, "flanneld is running"),
        Err(age) => {
            let age = age.as_secs();
            let text = format!("flanneld is stuck: its main loop has not answered for {age} s");
            Page::text(503, text)
        }
    }
}

/// Readiness. A host that serves is ready also while something needs attention, except for those who are `strict`.
pub(super) fn readyz(report: &Report, strict: bool) -> Page {
    let (code, line) = match report.state {
        State::Fine => (200, "flanneld is ready"),
        State::Degraded if !strict => (200, "flanneld is ready"),
        State::Degraded | State::NotReady | State::NotRunning | State::Silent => {
            (503, "flanneld is not ready yet")
        }
    };
    let mut body = line.to_owned();
    for reason in &report.reasons {
        // Words of etcd's or of the kernel's may have any form.
        body.extend(["\n", &plain(reason)]);
    }
    Page::text(code, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, reasons: &[&str]) -> Report {
        Report {
            state,
            reasons: reasons.iter().map(|&r| r.into()).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn what_flannel_says_is_said_to_the_byte() {
        let page = |code, body: &str| Page::text(code, body);
        assert_eq!(healthz(Ok(())), page(200, "flanneld is running"));
        assert_eq!(
            readyz(&report(State::Fine, &[]), false),
            page(200, "flanneld is ready")
        );
        assert_eq!(
            readyz(&report(State::NotReady, &[]), false),
            page(503, "flanneld is not ready yet")
        );
        assert_eq!(page(200, "").content_type, "text/plain; charset=utf-8");
    }

    #[test]
    fn reasons_follow_one_a_line() {
        let waiting = report(State::NotReady, &["waiting: no\nconfig", "and more"]);
        assert_eq!(
            readyz(&waiting, false),
            Page::text(
                503,
                "flanneld is not ready yet\nwaiting: no config\nand more"
            )
        );
        let degraded = report(State::Degraded, &["STALE"]);
        assert_eq!(
            readyz(&degraded, false),
            Page::text(200, "flanneld is ready\nSTALE")
        );
        assert_eq!(
            readyz(&degraded, true),
            Page::text(503, "flanneld is not ready yet\nSTALE")
        );
    }

    #[test]
    fn only_a_stuck_loop_is_not_alive() {
        assert_eq!(healthz(Err(Duration::from_secs(99))).code, 503);
    }
}
