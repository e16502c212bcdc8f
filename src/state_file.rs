//! What a start without etcd needs, as a file: the network, the own lease, the peers: pure. Written by the reconciler, read
//! at start.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::subnet::{
    BadConfig, LEASE_TTL, Lease, LeaseAttrs, NetworkConfig, Revision, Subnets, key,
};

/// Version of the format. A file of another one is not used.
const VERSION: u32 = 1;
/// Clocks are set: a file may be of the near future.
const SKEW: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize, Deserialize)]
struct File<'a, P> {
    version: u32,
    /// When etcd last confirmed the own lease: seconds since 1970.
    saved: u64,
    machine: String,
    prefix: String,
    #[serde(borrow)]
    config: &'a RawValue,
    own: Record,
    peers: P,
}

/// A lease as it is in etcd.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    created: Revision,
    value: Box<RawValue>,
}

impl Record {
    fn new(subnets: &Subnets, created: Revision, attrs: &LeaseAttrs) -> serde_json::Result<Self> {
        let value = RawValue::from_string(attrs.encode())?;
        Ok(Self {
            key: key::format(subnets),
            created,
            value,
        })
    }
}

/// Records that are made one at a time, as they are written.
struct Peers<I>(I);

impl<'a, I: Iterator<Item = (&'a Subnets, Revision, &'a LeaseAttrs)> + Clone> Serialize
    for Peers<I>
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut records = serializer.serialize_seq(None)?;
        for (subnets, created, attrs) in self.0.clone() {
            let record = Record::new(subnets, created, attrs).map_err(S::Error::custom)?;
            records.serialize_element(&record)?;
        }
        records.end()
    }
}

/// How old something is, in words: `12 s old`. Clocks are set.
pub fn age(saved: SystemTime, now: SystemTime) -> String {
    now.duration_since(saved).map_or_else(
        |_| "from the future by this host's clock".into(),
        |age| format!("{} s old", age.as_secs()),
    )
}

#[derive(Debug, Clone)]
pub struct State {
    /// When etcd last confirmed the lease of this host.
    pub saved: SystemTime,
    pub network: NetworkConfig,
    pub own: Lease,
    pub peers: Vec<Lease>,
}

/// Whose state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Text that is this machine's own.
    pub machine: &'a str,
    /// Root of all keys.
    pub prefix: &'a str,
}

/// Why a state file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is damaged, or of another version of this program.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It was written on another machine (a cloned disk), or for another cluster.
    #[error("it belongs to machine {machine:?}, prefix {prefix}")]
    Foreign { machine: String, prefix: String },
    /// The lease may have expired, and the subnet be another host's.
    #[error("it is {} h old, and a lease expires after {} h", .0.as_secs() / 3600, LEASE_TTL.as_secs() / 3600)]
    Old(Duration),
    /// This host's clock was wrong when it was written, or is now.
    #[error("it is from the future by this host's clock, so its age is unknown; set the clock")]
    Future,
    /// It was copied from another host, or this host has another address now.
    #[error("it announces {0}, which is neither an address of this host nor set by -public-ip")]
    Address(IpAddr),
    /// etcd was read since, and says otherwise.
    #[error("{0}")]
    Contradicted(String),
}

impl State {
    /// # Errors
    /// When the lease may have ended by `now`.
    pub fn check_age(&self, now: SystemTime) -> Result<(), Error> {
        match now.duration_since(self.saved) {
            Ok(age) if age >= LEASE_TTL => Err(Error::Old(age)),
            Err(ahead) if ahead.duration() > SKEW => Err(Error::Future),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Unreadable(error.to_string())
    }
}

/// The text of a state file. `peers` are subnets, revision of creation and what is announced.
pub fn render<'a>(
    owner: Owner<'_>,
    saved: SystemTime,
    network: &NetworkConfig,
    own: &Lease,
    peers: impl Iterator<Item = (&'a Subnets, Revision, &'a LeaseAttrs)> + Clone,
) -> Result<Vec<u8>, serde_json::Error> {
    let saved = saved.duration_since(SystemTime::UNIX_EPOCH);
    let file = File {
        version: VERSION,
        saved: saved.unwrap_or_default().as_secs(),
        machine: owner.machine.into(),
        prefix: owner.prefix.into(),
        config: &network.source,
        own: Record::new(&own.subnets, own.created, &own.attrs)?,
        peers: Peers(peers),
    };
    serde_json::to_vec(&file)
}

/// Reads a state file of `owner`. A peer that cannot be read is left out.
pub fn parse(text: &[u8], owner: Owner<'_>) -> Result<State, Error> {
    let file: File<'_, Vec<Record>> = serde_json::from_slice(text)?;
    file.check(owner)?;
    let unreadable = |error: BadConfig| Error::Unreadable(error.to_string());
    let saved = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(file.saved));
    Ok(State {
        saved: saved.ok_or_else(|| Error::Unreadable("its time is out of range".into()))?,
        network: NetworkConfig::parse(file.config.get().as_bytes()).map_err(unreadable)?,
        own: file.own()?,
        peers: file.peers.iter().filter_map(lease).collect(),
    })
}

/// Reads the own lease of a state file of `owner`, and not its peers.
pub fn parse_own(text: &[u8], owner: Owner<'_>) -> Result<Lease, Error> {
    let file: File<'_, IgnoredAny> = serde_json::from_slice(text)?;
    file.check(owner)?;
    file.own()
}

impl<P> File<'_, P> {
    fn check(&self, owner: Owner<'_>) -> Result<(), Error> {
        let version = self.version;
        if version != VERSION {
            let why = format!("its format version is {version}, this flanneld reads {VERSION}");
            return Err(Error::Unreadable(why));
        }
        if self.machine == owner.machine && self.prefix == owner.prefix {
            return Ok(());
        }
        let (machine, prefix) = (self.machine.clone(), self.prefix.clone());
        Err(Error::Foreign { machine, prefix })
    }

    fn own(&self) -> Result<Lease, Error> {
        lease(&self.own)
            .ok_or_else(|| Error::Unreadable("the lease of this host in it is not valid".into()))
    }
}

fn lease(record: &Record) -> Option<Lease> {
    let attrs = LeaseAttrs::decode(record.value.get().as_bytes()).ok()?;
    let subnets = key::parse(&record.key).ok()?;
    Some(Lease {
        subnets,
        attrs,
        created: record.created,
        modified: 0,
        lease_id: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: Owner<'_> = Owner {
        machine: "m",
        prefix: "/p",
    };

    fn moment(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn network() -> NetworkConfig {
        NetworkConfig::parse(br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap()
    }

    fn own() -> Lease {
        let attrs = LeaseAttrs::decode(
            br#"{"PublicIP":"10.0.0.1","BackendType":"vxlan","BackendData":{"VNI":1}}"#,
        )
        .unwrap();
        let subnets = key::parse("10.5.1.0-24").unwrap();
        Lease {
            subnets,
            attrs,
            created: 3,
            modified: 0,
            lease_id: None,
        }
    }

    fn text() -> Vec<u8> {
        let peers = [
            key::parse("10.5.2.0-24").unwrap(),
            key::parse("10.5.3.0-24").unwrap(),
        ];
        let attrs = LeaseAttrs::decode(br#"{"PublicIP":"10.0.0.2"}"#).unwrap();
        let peers = peers.iter().map(|subnets| (subnets, 5, &attrs));
        let text = render(ME, SystemTime::UNIX_EPOCH, &network(), &own(), peers).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (first, last) = text.rsplit_once(r#""10.0.0.2""#).unwrap();
        format!("{first}7{last}").into_bytes()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let state = parse(&text(), ME).unwrap();
        assert_eq!(state.own, own());
        assert_eq!(state.network.ranges, network().ranges);
        assert_eq!(
            state
                .peers
                .iter()
                .map(|p| p.subnets.to_string())
                .collect::<Vec<_>>(),
            ["10.5.2.0/24"]
        );
        assert_eq!(
            (state.peers[0].created, state.saved),
            (5, SystemTime::UNIX_EPOCH)
        );
    }

    #[test]
    fn state_file_keeps_both_families() {
        let json = br#"{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;
        let network = NetworkConfig::parse(json).unwrap();
        let value = r#"{"PublicIP":"10.0.0.1","PublicIPv6":"fd10::1","BackendType":"vxlan","BackendData":{"VNI":1},"BackendV6Data":{"VNI":1}}"#;
        let own = Lease {
            subnets: key::parse("10.5.1.0-24&fd05:0:0:1::-64").unwrap(),
            attrs: LeaseAttrs::decode(value.as_bytes()).unwrap(),
            ..own()
        };
        let peer = key::parse("0.0.0.0-0&fd05:0:0:2::-64").unwrap();
        let text = render(
            ME,
            SystemTime::UNIX_EPOCH,
            &network,
            &own,
            [(&peer, 5, &own.attrs)].into_iter(),
        )
        .unwrap();
        let state = parse(&text, ME).unwrap();
        assert_eq!(
            (state.own, state.network.ranges),
            (own.clone(), network.ranges)
        );
        assert_eq!(
            (state.peers[0].subnets, &state.peers[0].attrs),
            (peer, &own.attrs)
        );
    }

    #[test]
    fn another_machines_file_is_not_used() {
        for other in [Owner { machine: "x", ..ME }, Owner { prefix: "/x", ..ME }] {
            assert!(matches!(parse(&text(), other), Err(Error::Foreign { .. })));
        }
    }

    #[test]
    fn state_is_used_for_as_long_as_a_lease_lives() {
        let state = State {
            saved: moment(1_000_000),
            ..parse(&text(), ME).unwrap()
        };
        let day = LEASE_TTL.as_secs();
        for (now, verdict) in [
            (1_000_000, ""),
            (1_000_000 + day - 1, ""),
            (
                1_000_000 + day,
                "it is 24 h old, and a lease expires after 24 h",
            ),
            (
                1_000_000 + 90 * day,
                "it is 2160 h old, and a lease expires after 24 h",
            ),
            (1_000_000 - 3600, ""),
            (1_000_000 - 3601, "it is from the future"),
            (0, "it is from the future"),
        ] {
            let error = state
                .check_age(moment(now))
                .err()
                .map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert!(
                error.starts_with(verdict) && error.is_empty() == verdict.is_empty(),
                "{now}: {error}"
            );
        }
    }

    #[test]
    fn an_age_is_told_also_by_a_wrong_clock() {
        let at = moment;
        assert_eq!(age(at(5), at(17)), "12 s old");
        assert_eq!(age(at(17), at(5)), "from the future by this host's clock");
    }

    #[test]
    fn a_time_beyond_all_clocks_is_damage() {
        let text = String::from_utf8(text()).unwrap();
        let late = text.replace("\"saved\":0", &format!("\"saved\":{}", u64::MAX));
        assert_ne!(late, text);
        assert!(matches!(
            parse(late.as_bytes(), ME),
            Err(Error::Unreadable(_))
        ));
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_nothing_worse(at in 0..400_usize, byte in any::<u8>(), cut in any::<bool>()) {
            let mut text = text();
            let at = at % text.len();
            text[at] = byte;
            if cut {
                text.truncate(at);
            }
            let _ = parse(&text, ME);
        }
    }
}
