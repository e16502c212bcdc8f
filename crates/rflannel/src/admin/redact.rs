//! Removes secrets from text of any origin. Pure.
//!
//! It removes what looks like a secret, and every known secret wherever it appears. Harmless text may be removed too: a missing word
//! can be asked for, but a published secret cannot be taken back.

use std::ops::Range;

use regex::{Captures, Regex};

/// Replacement for a secret.
pub const MARK: &str = "***";
/// Known secrets that are shorter are not replaced, because they would destroy too much text.
const SHORTEST: usize = 4;

/// Matches names of secrets.
const NAME: &str = r"[A-Za-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|credentials?|api[-_]?key|access[-_]?key|private[-_]?key|key[-_]data|psk|cookie|authorization)[A-Za-z0-9_-]*";
/// Suffixes of names of a place or a number, not of a secret.
const HARMLESS: &[&str] = &[
    "file",
    "path",
    "dir",
    "ttl",
    "type",
    "cleaner",
    "review",
    "webhook-cache-ttl",
];

/// Removes secrets from text.
#[derive(Debug)]
pub struct Redactor {
    shapes: Vec<(Regex, &'static str)>,
    named: Vec<Regex>,
    known: Vec<String>,
}

/// Secrets that are recognized by their shape, and their replacements.
const SHAPES: &[(&str, &str)] = &[
    (
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
        "*** (a private key)",
    ),
    (r#"://[^\s"'<>]*@"#, "://***@"),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}", "$1 ***"),
    (r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*", MARK),
    (r#"((?:--user|-u)[= ]["']?[^\s:"'=]+:)[^\s"']+"#, "$1***"),
];

/// Secrets that are recognized by their name: the first group is the name, the second the value.
const NAMED: &[&str] = &[
    r#"(?i)"(NAME)=([^"]*)""#,
    r"(?i)'(NAME)=([^']*)'",
    r"(?im)^\s*(?:- )?(NAME):[ \t]+(\S.*)$",
    // A line that ends with `=` has no value. After `:` or `,` the value may be on the next line.
    r#"(?i)(NAME)(?:\\*["'])?[ \t]*(?:=[ \t]*|[:,]\s*)(\\+"[^"]*"|"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s"',}\]]+)"#,
    r#"(?i)(--?NAME)[ \t]+("[^"]*"|'[^']*'|\S+)"#,
];

impl Redactor {
    /// Builds a redactor. `known` are secrets that are replaced wherever they appear, such as the password in a configuration.
    /// Never: the patterns are fixed and tested.
    pub fn new(known: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
        let mut known: Vec<String> = known
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST)
            .collect();
        // Longer secrets first: otherwise a secret inside another one would leave the rest of it.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(Self {
            shapes: SHAPES
                .iter()
                .map(|(shape, to)| Ok((regex(shape)?, *to)))
                .collect::<Result<_, String>>()?,
            named: NAMED
                .iter()
                .map(|rule| regex(&rule.replace("NAME", NAME)))
                .collect::<Result<_, _>>()?,
            known,
        })
    }

    /// Returns the text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let text = self.known.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), MARK)
        });
        let text = self.shapes.iter().fold(text, |text, (shape, to)| {
            shape.replace_all(&text, *to).into_owned()
        });
        self.named
            .iter()
            .fold(text, |text, rule| blot(&text, &values(rule, &text)))
    }
}

/// Returns where the values of secret names are. A value may itself be the name of the next secret: `-password -token x`.
fn values(rule: &Regex, text: &str) -> Vec<Range<usize>> {
    let (mut spans, mut from) = (Vec::new(), 0);
    while let Some(found) = rule.captures_at(text, from) {
        let (Some(name), Some(value)) = (found.get(1), found.get(2)) else {
            break;
        };
        if !is_harmless(name.as_str()) {
            spans.push(value.range());
        }
        // A name is never empty, so the search makes progress.
        from = value.start().max(name.end());
    }
    spans
}

/// Replaces the spans, which are sorted by their start, with marks.
fn blot(text: &str, spans: &[Range<usize>]) -> String {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for span in spans {
        if span.start >= done {
            out.push_str(text.get(done..span.start).unwrap_or_default());
            out.push_str(MARK);
        }
        done = done.max(span.end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

fn is_harmless(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HARMLESS.iter().any(|end| name.ends_with(end))
}

/// Returns the secrets in an environment file or a command line.
pub fn secrets_in(text: &str) -> Vec<String> {
    let Ok(pattern) = Regex::new(&format!(r#"(?i)({NAME})["']?[= \t]["']?([^\s"']+)"#)) else {
        return Vec::new();
    };
    let found = pattern.captures_iter(text);
    let value = |found: Captures<'_>| {
        let (name, value) = (found.get(1)?.as_str(), found.get(2)?.as_str());
        (!is_harmless(name) && value != MARK).then(|| value.to_owned())
    };
    found.filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static PLAIN: LazyLock<Redactor> = LazyLock::new(|| Redactor::new([]).unwrap());

    fn redact(text: &str) -> String {
        PLAIN.redact(text)
    }

    #[test]
    fn every_way_to_write_a_secret_is_known() {
        for text in [
            "-etcd-password=hunter2",
            "-etcd-password hunter2",
            "--etcd-password \"hunter2\"",
            "FLANNELD_ETCD_PASSWORD=hunter2",
            "FLANNELD_ETCD_PASSWORD=\"hunter2 and more hunter2\"",
            "Environment=\"FLANNELD_ETCD_PASSWORD=hunter2 and hunter2\" \"X=1\"",
            "Environment='ETCD_TOKEN=hunter2 and hunter2'",
            r#"{"password":"hunter2"}"#,
            r#"{"password": "hun\"hunter2"}"#,
            r#"{"msg":"{\"password\":\"hunter2\"}"}"#,
            r#"["-etcd-password","hunter2"]"#,
            "password: hunter2 with words hunter2",
            "  client-key-data: aHVudGVyMg==hunter2",
            "- token: hunter2",
            "https://user:hunter2@10.0.0.1:2379",
            "https://user:hunt/hunter2@10.0.0.1:2379",
            "HTTP_PROXY=http://hunter2@proxy:3128",
            "etcdctl --user=root:hunter2 get x",
            "etcdctl --user root:hunter2 get x",
            "curl -u 'root:hunter2' x",
            "Authorization: Bearer hunter2",
            "authorization=hunter2",
            "got Bearer hunter2hunter2",
            "eyJhbGciOiJSUzI1NiJ9.hunter2.hunter2",
            "-----BEGIN EC PRIVATE KEY-----\nhunter2\nhunter2\n-----END EC PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2, cut off",
            "aws_secret_access_key = hunter2",
            "PresharedKey_psk=hunter2",
            "Set-Cookie: hunter2",
            "--token-auth-file --password hunter2",
            "--token-file= --password=hunter2",
            "token-file: password=hunter2",
            "TOKEN_FILE=\nFLANNELD_ETCD_PASSWORD=hunter2",
            "-etcd-password -etcd-token hunter2",
            "-etcd-password -hunter2",
            "[\"-etcd-password\",\n  \"hunter2\"]",
        ] {
            assert!(
                !redact(text).contains("hunter2"),
                "{text:?} -> {:?}",
                redact(text)
            );
            assert!(
                redact(text).contains(MARK),
                "{text:?} -> {:?}",
                redact(text)
            );
        }
    }

    #[test]
    fn what_is_needed_for_help_stays() {
        for text in [
            "-etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem -etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem",
            "--token-auth-file=/etc/kubernetes/tokens.csv",
            "https://10.64.3.7:2379,https://10.64.3.8:2379",
            r#"{"PublicIP":"10.64.0.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#,
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "0a:00:00:00:00:01 dev flannel.1 dst 10.64.0.2 self permanent",
            "FLANNELD_ETCD_PASSWORD=\nFLANNELD_ETCD_PREFIX=/kubernetes/network",
            "waiting: cannot read the network configuration: etcdserver: permission denied",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn known_secret_is_redacted_everywhere() {
        let known =
            secrets_in("FLANNELD_ETCD_PASSWORD=s3cr3t-s3cr3t\n-etcd-keyfile=/a/b X_TOKEN='s3cr3t'");
        assert_eq!(known, ["s3cr3t-s3cr3t", "s3cr3t"]);
        let redactor = Redactor::new(known).unwrap();
        assert_eq!(
            redactor.redact("he said s3cr3t-s3cr3t, and s3cr3t"),
            "he said ***, and ***"
        );
    }

    proptest! {
        #[test]
        fn any_text_can_be_redacted_and_again(text in "(?s).{0,200}") {
            let once = redact(&text);
            prop_assert_eq!(redact(&once).matches(MARK).count() >= once.matches(MARK).count(), true);
        }

        #[test]
        fn no_surroundings_save_a_password(before in "[ -~]{0,20}", value in "[A-Za-z0-9]{8,20}", after in "[ -~]{0,20}") {
            let text = format!("{before}\nFLANNELD_ETCD_PASSWORD={value}\n{after}");
            prop_assert!(!redact(&text).contains(&value));
        }
    }
}
