//! Taking secrets out of texts of any origin: pure.
//!
//! What looks like a secret goes, and so does every secret that is known by itself, wherever it stands. Something that is
//! none may go with it: a word too few can be asked for, one too many cannot be taken back.

use std::borrow::Cow;

use regex::{Captures, Regex};

/// What stands in a secret's place.
pub const MARK: &str = "***";
/// A known secret shorter than this would blot out half of a text.
const SHORTEST: usize = 4;

/// The end of a name of something secret.
const NAME: &str = r"[A-Za-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|credentials?|api[-_]?key|access[-_]?key|private[-_]?key|key[-_]data|psk|cookie|authorization)[A-Za-z0-9_-]*";
/// Names that end so name a place or a number, not the secret.
const HARMLESS: &[&str] = &["file", "path", "dir", "ttl", "type", "cleaner", "review", "webhook-cache-ttl"];

/// Takes secrets out.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    known: Vec<String>,
}

#[derive(Debug)]
struct Rule {
    pattern: Regex,
    /// Group of the name that decides, if one does.
    name: Option<usize>,
    /// What takes its place.
    to: &'static str,
}

/// Pattern, group of the name, replacement. In this order.
fn table() -> Vec<(String, Option<usize>, &'static str)> {
    let line = |pattern: &str| pattern.replace("NAME", NAME);
    vec![
        (
            r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)".into(),
            None,
            "*** (a private key)",
        ),
        (r#"://[^\s"'<>]*@"#.into(), None, "://***@"),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}".into(), None, "$1 ***"),
        (r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*".into(), None, MARK),
        (line(r#"(?i)"(NAME)=[^"]*""#), Some(1), "\"$1=***\""),
        (line(r#"(?i)'(NAME)=[^']*'"#), Some(1), "'$1=***'"),
        (line(r"(?im)^(\s*(?:- )?(NAME):[ \t]+)(\S.*)$"), Some(2), "$1***"),
        (
            line(
                r#"(?i)(NAME)((?:\\*["'])?\s*(?:=|:|,)\s*)(?:\\+"[^"]*"|"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s"',}\]]+)"#,
            ),
            Some(1),
            "$1$2***",
        ),
        (line(r#"(?i)(--?NAME)([ \t]+)(?:"[^"]*"|'[^']*'|\S+)"#), Some(1), "$1$2***"),
        (r#"((?:--user|-u)[= ]["']?[^\s:"'=]+:)[^\s"']+"#.into(), None, "$1***"),
    ]
}

impl Redactor {
    /// `known`: secrets by themselves, such as a password that a configuration holds.
    ///
    /// # Errors
    /// Never: the patterns are fixed, and tested.
    pub fn new(known: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let rule = |(pattern, name, to): (String, Option<usize>, &'static str)| {
            Regex::new(&pattern).map(|pattern| Rule { pattern, name, to }).map_err(|error| error.to_string())
        };
        let mut known: Vec<String> = known.into_iter().filter(|secret| secret.len() >= SHORTEST).collect();
        // A secret that is part of another one would leave the rest of that.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(Self { rules: table().into_iter().map(rule).collect::<Result<_, _>>()?, known })
    }

    /// The text without them.
    pub fn redact(&self, text: &str) -> String {
        let mut text =
            self.known.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MARK));
        for rule in &self.rules {
            if let Cow::Owned(changed) = rule.apply(&text) {
                text = changed;
            }
        }
        text
    }
}

impl Rule {
    fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.pattern.replace_all(text, |found: &Captures<'_>| {
            let whole = found.get(0).map_or("", |all| all.as_str());
            let named = self.name.and_then(|group| found.get(group)).map_or("", |name| name.as_str());
            if self.name.is_some() && is_harmless(named) {
                return whole.to_owned();
            }
            let mut out = String::new();
            found.expand(self.to, &mut out);
            out
        })
    }
}

fn is_harmless(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HARMLESS.iter().any(|end| name.ends_with(end))
}

/// The secrets that a file of variables or a command line holds: what a redactor shall know by itself.
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
        ] {
            assert!(!redact(text).contains("hunter2"), "{text:?} -> {:?}", redact(text));
            assert!(redact(text).contains(MARK), "{text:?} -> {:?}", redact(text));
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
            "waiting: cannot read the network configuration: etcdserver: permission denied",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_known_secret_goes_wherever_it_stands() {
        let known = secrets_in("FLANNELD_ETCD_PASSWORD=s3cr3t-s3cr3t\n-etcd-keyfile=/a/b X_TOKEN='s3cr3t'");
        assert_eq!(known, ["s3cr3t-s3cr3t", "s3cr3t"]);
        let redactor = Redactor::new(known).unwrap();
        assert_eq!(redactor.redact("he said s3cr3t-s3cr3t, and s3cr3t"), "he said ***, and ***");
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
