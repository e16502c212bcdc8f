//! Shows line by line what would change, for people, without secrets. Pure.

use std::fmt::Write;

use similar::TextDiff;

use super::diff::{Diff, Fate, PathDiff};
use super::file_state::FileState;

/// Replacement for a secret.
const HIDDEN: &str = "***";
/// The text after one of these words on a line is a secret.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "key-data",
    "private key",
    "auth\"",
];
/// Longer runs of base64 are usually keys.
const BASE64: usize = 40;

/// Returns a unified diff in the order of writing; empty if nothing would change.
pub fn unified(diff: &Diff) -> String {
    diff.paths
        .iter()
        .filter(|path_diff| path_diff.fate != Fate::Unchanged)
        .map(one)
        .collect()
}

fn one(path_diff: &PathDiff) -> String {
    let path = path_diff.path.display().to_string();
    let obstacle = path_diff
        .obstacle
        .as_ref()
        .map(|obstacle| format!("# {path}: {}\n", obstacle.text()));
    let body = match (&path_diff.before, &path_diff.after) {
        (FileState::Absent, FileState::Directory(mode)) => {
            format!("# {path}: directory created, mode {mode:04o}\n")
        }
        (FileState::Directory(_), FileState::Absent) => {
            format!("# {path}: directory removed if it is empty\n")
        }
        (FileState::File(_), FileState::File(_)) if path_diff.fate == Fate::Restored => {
            format!("# {path}: the content before the first apply is restored\n")
        }
        (before, after) => format!("{}{}", modes(&path, before, after), text(path_diff, &path)),
    };
    obstacle.unwrap_or_default() + &body
}

fn modes(path: &str, before: &FileState, after: &FileState) -> String {
    match (before, after) {
        (FileState::File(before), FileState::File(after)) if before.mode != after.mode => {
            format!(
                "# {path}: mode {:04o} becomes {:04o}\n",
                before.mode, after.mode
            )
        }
        (FileState::Absent | FileState::Directory(_) | FileState::File(_), _) => String::new(),
    }
}

fn text(path_diff: &PathDiff, path: &str) -> String {
    let side = |shape: &FileState| {
        if *shape == FileState::Absent {
            "/dev/null".to_owned()
        } else {
            path.to_owned()
        }
    };
    let (Ok(old), Ok(new)) = (
        str::from_utf8(&path_diff.contents.0),
        str::from_utf8(&path_diff.contents.1),
    ) else {
        return format!("# {path}: its content differs and is not text\n");
    };
    let diff = TextDiff::from_lines(old, new);
    let diff = diff
        .unified_diff()
        .header(&side(&path_diff.before), &side(&path_diff.after))
        .to_string();
    diff.lines().fold(String::new(), |mut shown, line| {
        // Writing to a string does not fail.
        let _ = writeln!(shown, "{}", redact(line));
        shown
    })
}

/// Returns a line without secrets: the text after a word for one, userinfo in a URL, and long base64.
pub fn redact(line: &str) -> String {
    let folded = line.to_ascii_lowercase();
    let word = WORDS
        .iter()
        .filter_map(|word| Some(folded.find(word)? + word.len()))
        .min();
    let value = word.and_then(|end| Some(end + folded.get(end..)?.find(['=', ':', ' '])? + 1));
    if let Some(head) = value.and_then(|at| line.get(..at)) {
        return format!("{head}{HIDDEN}");
    }
    line.split_inclusive([' ', '"', '=', ','])
        .map(redact_word)
        .collect()
}

fn redact_word(word: &str) -> String {
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((userinfo, host)) = rest.split_once('@')
        && !userinfo.contains('/')
    {
        return format!("{scheme}://{HIDDEN}@{host}");
    }
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || ['+', '/', '='].contains(&c);
    let bare = word
        .trim_start_matches(['+', '-', ' '])
        .trim_end_matches([' ', '"', ',']);
    // A path has fewer upper-case letters and digits than base64.
    let mixed = [char::is_uppercase, char::is_lowercase, char::is_numeric]
        .iter()
        .all(|kind| bare.contains(*kind));
    if bare.len() >= BASE64 && bare.chars().all(is_base64) && mixed {
        HIDDEN.into()
    } else {
        word.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::file_state::{Digest, Stamp};

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
            assert!(
                !shown.contains("hunter2") && shown.contains(HIDDEN),
                "{line}: {shown}"
            );
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
            FileState::File(Stamp {
                digest: Digest::of(text.as_bytes()),
                mode: 0o644,
                owner: None,
                modified: None,
            })
        };
        let path_diff = PathDiff {
            path: "/etc/x".into(),
            fate: Fate::Updated,
            obstacle: None,
            before: file("a\nb\n"),
            after: file("a\nc\n"),
            contents: (b"a\nb\n".to_vec(), b"a\nc\n".to_vec()),
            original: FileState::Absent,
        };
        let new = PathDiff {
            fate: Fate::Created,
            before: FileState::Absent,
            contents: (Vec::new(), b"a\n".to_vec()),
            ..path_diff.clone()
        };
        let shown = unified(&Diff {
            paths: vec![path_diff, new],
        });
        assert_eq!(
            shown,
            "--- /etc/x\n+++ /etc/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+a\n"
        );
    }
}
