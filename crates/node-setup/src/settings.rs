//! Collects the settings of a node by name, from flags, a TOML file, or exported variables. Pure.
//!
//! A setting has one name: the flag without its dashes is the key in the file.

mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use table::{Kind, SETTINGS, Setting};

use super::{Error, Warning};
use flanneld::subnet::cidr;

/// The tutorial's variable for kube-proxy's `--cluster-cidr`.
const CLUSTER_CIDR: &str = "CLUSTER_CIDR";

/// A value of a setting, according to its [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// Several, in order.
    List(Vec<String>),
    Switch(bool),
}

/// The settings that were given. The others have defaults, see [`Model`](super::Model).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings(BTreeMap<&'static str, Value>);

impl Settings {
    /// Sets a setting. A list may be given as one text with commas.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), Error> {
        let setting = table::find(name).ok_or_else(|| unknown(name))?;
        let value = match (setting.kind, value) {
            (Kind::List, Value::Text(text)) => Value::List(split(&text)),
            (Kind::Words, Value::Text(text)) => Value::List(words(name, &text)?),
            (Kind::Words, Value::List(list)) | (Kind::List, Value::List(list)) => Value::List(list),
            (Kind::Text, value @ Value::Text(_)) | (Kind::Switch, value @ Value::Switch(_)) => {
                value
            }
            (kind, _) => return Err(Error::setting(name, format!("must be {}", kind.told()))),
        };
        self.0.insert(setting.name, value);
        Ok(())
    }

    /// Returns these settings, plus those of `other` that are not among them.
    #[must_use]
    pub fn over(mut self, other: Self) -> Self {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns a text; an empty one counts as not given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Returns a list; empty if it was not given.
    pub fn list(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// Returns a switch; off if it was not given.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Switch(true)))
    }

    /// Sets the default of a setting that was not given.
    pub(super) fn fill(&mut self, name: &'static str, value: impl Into<Value>) {
        debug_assert!(table::find(name).is_some(), "{name} is no setting");
        self.0.entry(name).or_insert_with(|| value.into());
    }

    /// Parses a TOML file.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| not_toml(text, &error))?;
        let mut settings = Self::default();
        for (name, value) in table {
            table::find(&name).ok_or_else(|| unknown(&name))?;
            settings.set(&name, from_toml_value(&name, value)?)?;
        }
        Ok(settings)
    }

    /// Formats all settings as a TOML file, in the order of the table, each with its description.
    pub fn to_toml(&self) -> String {
        let mut out =
            String::from("# Settings of `rflannel node-setup`: give this file with --config.\n");
        for setting in SETTINGS {
            if let Some(value) = self.0.get(setting.name) {
                let _ = write!(
                    out,
                    "\n# {}\n{} = {}\n",
                    setting.help,
                    setting.name,
                    to_toml_value(value)
                );
            }
        }
        out
    }

    /// Reads the exported variables of the tutorial and its later versions. `given` are settings that take precedence.
    ///
    /// `CLUSTER_CIDR`, which the tutorial uses for kube-proxy, contains the network of the services there (it contains the DNS service):
    /// it is used for that, with a warning. Another warning names exported variables that are not used.
    /// Fails if there is none of them, one is wrong, or two contradict each other.
    pub fn from_variables(
        get: impl Fn(&str) -> Option<String>,
        given: &Self,
    ) -> Result<(Self, Vec<Warning>), Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut settings = Self::default();
        let mut unused = Vec::new();
        for setting in SETTINGS {
            let mut exported = setting
                .variables
                .iter()
                .filter_map(|name| Some((*name, get(name)?)));
            let Some((first, value)) = exported.next() else {
                continue;
            };
            if let Some((other, _)) = exported.find(|(_, other)| *other != value) {
                let why = format!(
                    "{first} and {other} are exported with different values: unset one of them"
                );
                return Err(Error::setting("from-env", why));
            }
            if given.has(setting.name) {
                unused.push(format!("{first} ({} was given)", setting.name));
            }
            settings.set(setting.name, Value::Text(value))?;
        }
        let mut warnings = settings.set_cluster_cidr(get(CLUSTER_CIDR), given)?;
        if settings.0.is_empty() {
            let names: Vec<&str> = table::variables().map(|(_, variable)| variable).collect();
            let why = "is exported: run the exports in this shell, and use sudo with -E";
            return Err(Error::setting(
                "from-env",
                format!("none of {} {why}", names.join(", ")),
            ));
        }
        let known = table::UNUSED.iter().filter(|(name, _)| get(name).is_some());
        unused.extend(known.map(|(name, why)| format!("{name} ({why})")));
        if !unused.is_empty() {
            let text = format!("exported and not used: {}", unused.join(", "));
            warnings.push(Warning {
                id: "from-env",
                text,
            });
        }
        Ok((settings, warnings))
    }

    fn set_cluster_cidr(
        &mut self,
        cidr: Option<String>,
        given: &Self,
    ) -> Result<Vec<Warning>, Error> {
        let Some(cidr) = cidr else {
            return Ok(Vec::new());
        };
        let dns = self
            .text("cluster-dns")
            .unwrap_or("10.254.0.2")
            .parse()
            .ok();
        let services = dns
            .zip(cidr::v4(&cidr))
            .is_some_and(|(dns, cidr)| cidr.contains(dns));
        // If SERVICE_CIDR is exported, too, this can only be the network of the pods.
        if self.has("service-cidr") || !services {
            return self.set("pod-cidr", Value::Text(cidr)).map(|()| Vec::new());
        }
        let text = format!(
            "CLUSTER_CIDR={cidr} is the network of the services, but kube-proxy's --cluster-cidr must be that of the pods; \
             it is set from pod-cidr",
        );
        self.set("service-cidr", Value::Text(cidr))?;
        // A setting that names a network takes precedence over the variable.
        if given.has("service-cidr") {
            return Ok(Vec::new());
        }
        Ok(vec![Warning {
            id: "cluster-cidr",
            text,
        }])
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(on: bool) -> Self {
        Self::Switch(on)
    }
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(list: [&str; N]) -> Self {
        Self::List(list.iter().map(ToString::to_string).collect())
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(',')
        .map(|element| element.trim().to_owned())
        .collect()
}

/// Splits text into words like a shell, without expansion.
fn words(name: &str, text: &str) -> Result<Vec<String>, Error> {
    shlex::split(text)
        .ok_or_else(|| Error::setting(name, format!("{text:?} has a quote that is not closed")))
}

fn unknown(name: &str) -> Error {
    let close = SETTINGS
        .iter()
        .map(|setting| setting.name)
        .min_by_key(|known| strsim::osa_distance(known, name));
    let hint = close
        .map(|name| format!("; the closest one is {name}"))
        .unwrap_or_default();
    Error::setting(name, format!("there is no such setting{hint}"))
}

fn not_toml(text: &str, error: &toml::de::Error) -> Error {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    Error::setting(
        "config",
        format!(
            "line {line} is not valid TOML: {}",
            error.message().replace('\n', ", ")
        ),
    )
}

fn from_toml_value(name: &str, value: toml::Value) -> Result<Value, Error> {
    match value {
        toml::Value::String(text) => Ok(Value::Text(text)),
        toml::Value::Boolean(on) => Ok(Value::Switch(on)),
        toml::Value::Integer(number) => Ok(Value::Text(number.to_string())),
        toml::Value::Array(elements) => elements
            .into_iter()
            .map(|element| element_text(name, element))
            .collect::<Result<_, _>>()
            .map(Value::List),
        toml::Value::Float(_) => Err(Error::setting(
            name,
            "is a number with a point: put it in quotes",
        )),
        toml::Value::Datetime(_) | toml::Value::Table(_) => Err(Error::setting(
            name,
            "must be a text, a list of texts, true or false",
        )),
    }
}

fn element_text(name: &str, element: toml::Value) -> Result<String, Error> {
    let text = element.as_str().map(str::to_owned);
    text.ok_or_else(|| Error::setting(name, "must be a list of texts: put each in quotes"))
}

fn to_toml_value(value: &Value) -> String {
    match value {
        Value::Text(text) => toml::Value::from(text.as_str()).to_string(),
        Value::List(list) => toml::Value::from(list.clone()).to_string(),
        Value::Switch(on) => on.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn toml(text: &str) -> Result<Settings, String> {
        Settings::from_toml(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_read_or_its_fault_is_named() {
        let settings =
            toml("node-ip = '10.0.0.1'\netcd-endpoints = 'https://a:1, https://b:1'\nsecure-kubelet=true")
                .unwrap();
        assert_eq!(settings.text("node-ip"), Some("10.0.0.1"));
        assert_eq!(
            settings.list("etcd-endpoints"),
            ["https://a:1", "https://b:1"]
        );
        assert!(settings.switch("secure-kubelet") && !settings.switch("docker-wait"));
        for (bad, want) in [
            ("node-ip", "line 1 is not valid TOML"),
            ("\n\nnode-ip = ", "line 3 is not valid TOML"),
            ("node-ip = '1'\nnode-ip = '2'", "not valid TOML"),
            ("nodeip = '1'", "the closest one is node-ip"),
            ("node-ip = true", "node-ip: must be a text"),
            ("secure-kubelet = 'yes'", "true or false"),
            ("kubernetes-version = 1.6", "put it in quotes"),
            ("services = [1]", "list of texts"),
            ("[node]\nip = 1", "there is no such setting"),
        ] {
            let error = toml(bad).unwrap_err();
            assert!(error.contains(want), "{bad:?}: {error}");
        }
    }

    #[test]
    fn what_was_told_first_stays() {
        let (one, two) = (
            toml("node-ip = '1'").unwrap(),
            toml("node-ip = '2'\nnode-name = 'n'").unwrap(),
        );
        let both = one.over(two);
        assert_eq!(
            (both.text("node-ip"), both.text("node-name")),
            (Some("1"), Some("n"))
        );
    }

    #[test]
    fn the_documents_exports_are_understood() {
        let get = |name: &str| match name {
            "ADDRESS" => Some("10.64.3.7".to_owned()),
            "FLANNEL_OPTIONS" => Some("-iface=eth0 -v='1'".to_owned()),
            "CLUSTER_CIDR" => Some("10.254.0.0/16".to_owned()),
            "CLUSTER_DNS" => Some(String::new()),
            _ => None,
        };
        let (settings, warnings) = Settings::from_variables(get, &Settings::default()).unwrap();
        assert_eq!(
            (settings.text("service-cidr"), warnings.len()),
            (Some("10.254.0.0/16"), 1)
        );
        assert!(!settings.has("pod-cidr"));
        assert_eq!(settings.text("node-ip"), Some("10.64.3.7"));
        assert_eq!(settings.list("flannel-options"), ["-iface=eth0", "-v=1"]);
        assert!(!settings.has("cluster-dns"));
        let none = Settings::from_variables(|_| None, &Settings::default())
            .unwrap_err()
            .to_string();
        assert!(
            none.contains("ADDRESS") && none.contains("sudo with -E"),
            "{none}"
        );
        let open = Settings::from_variables(
            |name| (name == "FLANNEL_OPTIONS").then(|| "-v='1".into()),
            &Settings::default(),
        );
        assert!(open.unwrap_err().to_string().contains("not closed"));
    }

    proptest! {
        #[test]
        fn toml_comes_back(text in "\\PC{1,20}|[\"'\\\\\n]{1,5}", list in prop::collection::vec("\\PC{0,9}", 0..4), on: bool) {
            let mut settings = Settings::default();
            settings.set("node-name", Value::Text(text)).unwrap();
            settings.set("registry-mirrors", Value::List(list)).unwrap();
            settings.set("secure-kubelet", Value::Switch(on)).unwrap();
            prop_assert_eq!(Settings::from_toml(&settings.to_toml()), Ok(settings));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = Settings::from_toml(&text);
        }
    }
}
