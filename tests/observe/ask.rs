//! Asking a daemon from inside its host.

use lab::{Node, wait_until};

use super::SOON;

/// The flag that opens the health port where [`get`] looks for it.
pub const PORT: &str = "-healthz-port=8471";

/// Status code, content type and body.
pub fn get(node: &Node, path: &str) -> (u16, String, String) {
    let shown = node.sh(&format!(
        "curl -s -m 20 -o /run/body -w '%{{http_code}} %{{content_type}}' http://127.0.0.1:8471{path} || true; echo; cat /run/body 2>/dev/null || true; rm -f /run/body"
    ));
    let shown = shown.unwrap_or_default();
    let (head, body) = shown.split_once('\n').unwrap_or_default();
    let (code, kind) = head.split_once(' ').unwrap_or_default();
    (
        code.parse().unwrap_or_default(),
        kind.to_owned(),
        body.to_owned(),
    )
}

/// Waits until the page has this code, and its body these words.
#[track_caller]
pub fn becomes(node: &Node, path: &str, code: u16, words: &str) -> String {
    let mut seen = (0, String::new(), String::new());
    let came = wait_until(SOON, || {
        seen = get(node, path);
        seen.0 == code && seen.2.contains(words)
    });
    assert!(
        came,
        "{path}: waited in vain for {code} {words:?}: {seen:?}"
    );
    seen.2
}
