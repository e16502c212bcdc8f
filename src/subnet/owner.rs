//! Which machine wrote a lease, beyond its public address: pure.
//!
//! The lease value is shared with Go flannel and has no room for it, so it is a record of its own beside the lease, at
//! `<prefix>/owners/<subnet key>`: `{"MachineId":"…","Boot":"…","Host":"…"}`.

use super::go_json::Object;
use crate::util::fnv1a;

/// A running system. Two records with different machines or boots were written by different systems: another machine, or
/// the same one before it was started again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineId {
    id: String,
    boot: String,
    host: String,
}

impl MachineId {
    /// `id` stays the same over reboots (a machine id), `boot` does not; `host` is for messages. Without an id the machine
    /// is unknown.
    ///
    /// A machine id is not to be shown to others (machine-id(5)), so only a hash of it is published.
    pub fn new(id: &str, boot: &str, host: &str) -> Self {
        if id.is_empty() {
            return Self::default();
        }
        let salted = "rflannel owner ".bytes().chain(id.bytes());
        Self {
            id: format!("{:016x}", fnv1a(salted)),
            boot: boot.to_owned(),
            host: host.to_owned(),
        }
    }

    /// Nothing if the machine is unknown: then the public address has to do alone.
    pub fn known(&self) -> Option<&Self> {
        (!self.id.is_empty()).then_some(self)
    }

    /// Whether both are one running system. What it is called does not matter.
    pub fn is(&self, other: &Self) -> bool {
        (&self.id, &self.boot) == (&other.id, &other.boot)
    }

    /// Whether both have one machine id: a reboot, or a clone.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.id == other.id
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn encode(&self) -> String {
        serde_json::json!({ "Machine": self.id, "Boot": self.boot, "Host": self.host }).to_string()
    }

    /// Reads a record; `None` if it is none, or names no machine.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let object = Object::parse(value).ok()?;
        let text = |name| object.string(name).ok()?.map(std::borrow::Cow::into_owned);
        let host = text("Host")
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect();
        let machine = Self {
            id: text("Machine")?,
            boot: text("Boot")?,
            host,
        };
        machine.known().cloned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(id in ".+", boot in ".*", host in "[a-z0-9.-]{0,64}") {
            let machine = MachineId::new(&id, &boot, &host);
            prop_assert_eq!(MachineId::decode(machine.encode().as_bytes()), Some(machine));
        }

        #[test]
        fn total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = MachineId::decode(&bytes);
        }
    }

    #[test]
    fn a_reboot_is_alike_and_not_the_same() {
        let (first, second) = (MachineId::new("m", "1", "a"), MachineId::new("m", "2", "a"));
        assert!(first.is_alike(&second) && !first.is(&second));
        assert!(!first.is_alike(&MachineId::new("n", "1", "a")));
        assert!(first.is(&MachineId::new("m", "1", "renamed")));
    }

    #[test]
    fn what_names_no_machine_is_no_record() {
        assert_eq!(MachineId::new("", "boot", "host").known(), None);
        for json in [
            "",
            "{}",
            "null",
            r#"{"Machine":"","Boot":"b"}"#,
            r#"{"Machine":1,"Boot":"b"}"#,
        ] {
            assert_eq!(MachineId::decode(json.as_bytes()), None, "{json}");
        }
        assert!(
            !MachineId::new("0123456789", "b", "h")
                .encode()
                .contains("0123456789")
        );
    }
}
