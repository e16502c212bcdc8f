//! What would change, line by line, for people; secrets are never shown: pure.

use std::fmt::Write;

use similar::TextDiff;

use super::shape::Shape;
use super::survey::{Fate, Item, Survey};

/// Stands for a secret.
const HIDDEN: &str = "***";
/// What follows one of these on a line is a secret.
const WORDS: &[&str] =
    &["password", "passwd", "secret", "token", "credential", "key-data", "private key", "auth\""];
/// Longer runs of base64 are keys more often than not.
const BASE64: usize = 40;

/// Unified, in the order of writing; empty if nothing would change.
pub fn unified(survey: &Survey) -> String {
    survey.items.iter().filter(|item| item.fate != Fate::Unchanged).map(one).collect()
}

fn one(item: &Item) -> String {
    let path = item.path.display().to_string();
    let obstacle = item.obstacle.as_ref().map(|obstacle| format!("# {path}: {}\n", obstacle.text()));
    let body = match (&item.before, &item.after) {
        (Shape::Absent, Shape::Directory(mode)) => format!("# {path}: directory made, mode {mode:04o}\n"),
        (Shape::Directory(_), Shape::Absent) => format!("# {path}: directory removed if it is empty\n"),
        (Shape::File(_), Shape::File(_)) if item.fate == Fate::Restored => {
            format!("# {path}: becomes again what it was before it was ours\n")
        }
        (before, after) => format!("{}{}", modes(&path, before, after), text(item, &path)),
    };
    obstacle.unwrap_or_default() + &body
}

fn modes(path: &str, before: &Shape, after: &Shape) -> String {
    match (before, after) {
        (Shape::File(before), Shape::File(after)) if before.mode != after.mode => {
            format!("# {path}: mode {:04o} becomes {:04o}\n", before.mode, after.mode)
        }
        (Shape::Absent | Shape::Directory(_) | Shape::File(_), _) => String::new(),
    }
}

fn text(item: &Item, path: &str) -> String {
    let side = |shape: &Shape| if *shape == Shape::Absent { "/dev/null".to_owned() } else { path.to_owned() };
    let (Ok(old), Ok(new)) = (str::from_utf8(&item.contents.0), str::from_utf8(&item.contents.1)) else {
        return format!("# {path}: its content differs, and is no text\n");
    };
    let diff = TextDiff::from_lines(old, new);
    let diff = diff.unified_diff().header(&side(&item.before), &side(&item.after)).to_string();
    diff.lines().fold(String::new(), |mut shown, line| {
        // Writing to a string does not fail.
        let _ = writeln!(shown, "{}", redact(line));
        shown
    })
}

/// A line without its secrets: what follows a word for one, userinfo in a URL, long base64.
pub fn redact(line: &str) -> String {
    let folded = line.to_ascii_lowercase();
    let word = WORDS.iter().filter_map(|word| Some(folded.find(word)? + word.len())).min();
    let value = word.and_then(|end| Some(end + folded.get(end..)?.find(['=', ':', ' '])? + 1));
    if let Some(head) = value.and_then(|at| line.get(..at)) {
        return format!("{head}{HIDDEN}");
    }
    line.split_inclusive([' ', '"', '=', ',']).map(redact_word).collect()
}

fn redact_word(word: &str) -> String {
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((userinfo, host)) = rest.split_once('@')
        && !userinfo.contains('/')
    {
        return format!("{scheme}://{HIDDEN}@{host}");
    }
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || ['+', '/', '='].contains(&c);
    let bare = word.trim_start_matches(['+', '-', ' ']).trim_end_matches([' ', '"', ',']);
    // A path has fewer upper case letters and digits than words.
    let mixed =
        [char::is_uppercase, char::is_lowercase, char::is_numeric].iter().all(|kind| bare.contains(*kind));
    if bare.len() >= BASE64 && bare.chars().all(is_base64) && mixed { HIDDEN.into() } else { word.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_setup::apply::shape::{Digest, Stamp};

    #[test]
    fn secrets_do_not_show() {
        let key = "MHcCAQEEIJ7mF9b1Qw3kT8zq0pYxLh5vRn2sUc6dWgVtXeZaBoAoGCCqGSM49";
        for line in [
            "+FLANNELD_ETCD_PASSWORD=hunter2".to_owned(),
            "-ExecStart=/usr/bin/flanneld -etcd-password=hunter2 -v=1".to_owned(),
            "-ExecStart=/usr/bin/flanneld --etcd-password hunter2".to_owned(),
            "+    token: hunter2".to_owned(),
            "+  \"registry-mirrors\": [\"https://me:hunter2@mirror.example\"]".to_owned(),
            "+-etcd-endpoints=https://a:1,https://me:hunter2@b:2".to_owned(),
            format!("+    client-key-data: {key}hunter2"),
            format!("+{key}hunter2=="),
        ] {
            let shown = redact(&line);
            assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{line}: {shown}");
        }
    }

    #[test]
    fn what_is_no_secret_shows() {
        for line in [
            "+ExecStart=/usr/local/bin/flanneld -etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem",
            "+# Managed by rflannel node-setup",
            "-etcd-endpoints=https://10.64.3.7:2379,https://10.64.3.8:2379",
            "+WantedBy=multi-user.target",
        ] {
            assert_eq!(redact(line), line);
        }
    }

    #[test]
    fn a_difference_reads_like_a_patch() {
        let file = |text: &str| {
            Shape::File(Stamp {
                digest: Digest::of(text.as_bytes()),
                mode: 0o644,
                owner: None,
                modified: None,
            })
        };
        let item = Item {
            path: "/etc/x".into(),
            fate: Fate::Updated,
            obstacle: None,
            before: file("a\nb\n"),
            after: file("a\nc\n"),
            contents: (b"a\nb\n".to_vec(), b"a\nc\n".to_vec()),
            original: Shape::Absent,
        };
        let new = Item {
            fate: Fate::Created,
            before: Shape::Absent,
            contents: (Vec::new(), b"a\n".to_vec()),
            ..item.clone()
        };
        let shown = unified(&Survey { items: vec![item, new] });
        assert_eq!(
            shown,
            "--- /etc/x\n+++ /etc/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+a\n"
        );
    }
}
