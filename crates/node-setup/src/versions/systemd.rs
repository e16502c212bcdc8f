//! Knows which version of systemd has which directive, and what a unit for an older version uses instead. Pure.
//!
//! Source: `src/core/load-fragment-gperf.gperf.*` and `src/shared/seccomp-util.c` of systemd's tags.

use std::fmt;
use std::str::FromStr;

use crate::unit::Unit;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemdVersion(pub u16);

impl SystemdVersion {
    /// The oldest supported version, that of CentOS 7.
    pub const OLDEST: Self = Self(219);
    /// The newest version whose directives are known. Newer versions get the same units.
    pub const NEWEST: Self = Self(256);
    /// The first version that starts `systemd/flanneld.service` as shipped, because it has `@system-service`.
    pub const SHIPPED_UNIT: Self = Self(239);
    /// The first version that keeps the directories of a service when it stops, and has a directory for its state.
    pub const SERVICE_DIRECTORIES: Self = Self(235);
    /// The first version whose networkd leaves a device alone if a file says so.
    pub const UNMANAGED_LINKS: Self = Self(233);
    /// The first version whose networkd can reload its files.
    pub const NETWORKD_RELOAD: Self = Self(244);
}

impl fmt::Display for SystemdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for SystemdVersion {
    type Err = String;

    /// Parses `252`, `v252`, and `252.38-1~deb12u1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .trim_start_matches('v')
            .split(|char: char| !char.is_ascii_digit())
            .next();
        let number = digits.and_then(|digits| digits.parse().ok()).map(Self);
        number.ok_or_else(|| {
            format!("{text:?} is not a version of systemd: give a number such as 219 or 252")
        })
    }
}

/// What an older version gets in place of a directive that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instead {
    /// The directive is omitted.
    Nothing,
    /// The same directive with this value.
    Value(&'static str),
    /// The same directive with this value, to which the comment above it does not apply.
    Weaker(&'static str),
    /// The same value without its first character.
    Unprefixed,
    /// The same value under another name, in another section.
    Key(&'static str, &'static str),
}

/// A directive, or some of its values, and the version that introduced it.
struct Directive {
    section: &'static str,
    key: &'static str,
    /// Prefix of the values; empty for all values.
    value: &'static str,
    since: u16,
    instead: Instead,
}

const fn directive(key: &'static str, since: u16) -> Directive {
    value(key, "", since, Instead::Nothing)
}

const fn value(key: &'static str, value: &'static str, since: u16, instead: Instead) -> Directive {
    Directive {
        section: "Service",
        key,
        value,
        since,
        instead,
    }
}

/// All directives of the units here that [`SystemdVersion::OLDEST`] does not know.
const DIRECTIVES: &[Directive] = &[
    directive("TasksMax", 227),
    directive("AmbientCapabilities", 229),
    // Older versions add infinity to the start time, which overflows into the past.
    value("TimeoutStartSec", "infinity", 229, Instead::Value("0")),
    Directive {
        section: "Unit",
        instead: Instead::Key("Service", "StartLimitInterval"),
        ..directive("StartLimitIntervalSec", 230)
    },
    value("ExecStartPre", "+", 231, Instead::Unprefixed),
    directive("MemoryDenyWriteExecute", 231),
    directive("ReadWritePaths", 231),
    directive("RestrictRealtime", 231),
    directive("ProtectControlGroups", 232),
    directive("ProtectKernelModules", 232),
    directive("ProtectKernelTunables", 232),
    value("ProtectSystem", "strict", 232, Instead::Weaker("full")),
    directive("RestrictNamespaces", 233),
    directive("KeyringMode", 235),
    directive("LockPersonality", 235),
    // Older versions know it, but without RuntimeDirectoryPreserve= the directory is removed at each stop.
    directive("RuntimeDirectory", 235),
    directive("RuntimeDirectoryMode", 235),
    directive("RuntimeDirectoryPreserve", 235),
    directive("StateDirectory", 235),
    directive("StateDirectoryMode", 235),
    // Older versions know it, but not @system-service: a filter without that allows almost no system call.
    directive("SystemCallFilter", 239),
    directive("SystemCallErrorNumber", 239),
    directive("ProtectHostname", 242),
    directive("RestrictSUIDSGID", 242),
    directive("ProtectKernelLogs", 244),
    directive("ProtectClock", 245),
    directive("ProtectProc", 247),
];

impl Directive {
    fn is_unknown_to(&self, version: SystemdVersion) -> bool {
        version.0 < self.since
    }
}

/// Returns the number of directives of a unit that `version` does not know and that have no substitute.
pub fn left_out(text: &str, version: SystemdVersion) -> usize {
    let unit = Unit::parse(text);
    let unknown = DIRECTIVES
        .iter()
        .filter(|one| one.is_unknown_to(version) && one.instead == Instead::Nothing);
    unknown
        .filter(|one| {
            unit.entries()
                .any(|(section, key, _)| (section, key) == (one.section, one.key))
        })
        .count()
}

/// Rewrites a unit for `version`. A unit that the version understands completely is not changed.
#[must_use]
pub fn adapt(text: &str, version: SystemdVersion) -> String {
    let unit = Unit::parse(text);
    let is_used = |one: &&Directive| {
        unit.entries().any(|(section, key, value)| {
            (section, key) == (one.section, one.key) && value.starts_with(one.value)
        })
    };
    let used: Vec<&Directive> = DIRECTIVES
        .iter()
        .filter(|one| one.is_unknown_to(version))
        .filter(is_used)
        .collect();
    if used.is_empty() {
        text.to_owned()
    } else {
        used.into_iter()
            .fold(unit, replaced)
            .to_string()
            .replace("\n\n\n", "\n\n")
    }
}

fn replaced(unit: Unit, one: &Directive) -> Unit {
    let values = unit.values(one.section, one.key);
    let other = |value: &String| -> Option<String> {
        match one.instead {
            _ if !value.starts_with(one.value) => Some(value.clone()),
            Instead::Nothing | Instead::Key(..) => None,
            Instead::Value(other) | Instead::Weaker(other) => Some(other.to_owned()),
            Instead::Unprefixed => Some(value.chars().skip(1).collect()),
        }
    };
    let kept: Vec<String> = values.iter().filter_map(other).collect();
    match one.instead {
        Instead::Key(section, key) => {
            let comment = unit.comment(one.section, one.key);
            let unit = unit
                .with(one.section, one.key, &[])
                .with(section, key, &values);
            unit.insert(section, key, &comment, &[])
        }
        Instead::Nothing | Instead::Weaker(_) => unit.with(one.section, one.key, &kept),
        Instead::Value(_) | Instead::Unprefixed => unit.set(one.section, one.key, &kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (text, want) in [
            ("219", 219),
            ("v252", 252),
            ("252.38-1~deb12u1", 252),
            ("239-82.el8", 239),
        ] {
            assert_eq!(text.parse(), Ok(SystemdVersion(want)), "{text}");
        }
        for bad in ["", "systemd", "-1", "99999"] {
            assert!(bad.parse::<SystemdVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn known_directives_stay_as_they_are() {
        let text =
            "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nTimeoutStartSec=90\nProtectClock=yes\n";
        assert_eq!(adapt(text, SystemdVersion(245)), text);
        assert_eq!(
            adapt(text, SystemdVersion(229)),
            "[Unit]\n\n[Service]\nTimeoutStartSec=90\nStartLimitInterval=0\n"
        );
        assert_eq!(
            [244, 245].map(|version| left_out(text, SystemdVersion(version))),
            [1, 0]
        );
    }

    #[test]
    fn substitutes_keep_the_comment_that_explains_them() {
        let text =
            "[Service]\n# waits\nTimeoutStartSec=infinity\n# lock\nExecStartPre=+/bin/touch x\n";
        let want = "[Service]\n# waits\nTimeoutStartSec=0\n# lock\nExecStartPre=/bin/touch x\n";
        assert_eq!(adapt(text, SystemdVersion(219)), want);
    }
}
