//! Finds the lease or the subnets that an operator names. Pure.

use std::net::IpAddr;

use super::{Inventory, InventoryEntry};
use flanneld::subnet::{Subnets, cidr, key};
use flanneld::util::family::Family;

/// Finds the lease by subnet, key, public address, host name, or the address of a pod. Fails if there is no such lease, or more than one.
pub fn entry<'a>(inventory: &'a Inventory, text: &str) -> Result<&'a InventoryEntry, String> {
    let exact: Vec<&InventoryEntry> = inventory
        .entries
        .iter()
        .filter(|entry| names(entry, text))
        .collect();
    let found = if exact.is_empty() {
        inventory
            .entries
            .iter()
            .filter(|entry| holds(entry, text))
            .collect()
    } else {
        exact
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(format!(
            "no lease below {}/subnets matches {text:?}: give a subnet, a key, a public IP, a host name, or the address of a pod",
            inventory.prefix
        )),
        several => {
            let titles: Vec<String> = several.iter().map(|entry| entry.title()).collect();
            Err(format!(
                "{text:?} matches {}: give one of these subnets",
                titles.join(", ")
            ))
        }
    }
}

fn names(entry: &InventoryEntry, text: &str) -> bool {
    let subnet = cidr::any(text);
    let is_half = || subnet.is_some_and(|subnet| entry.subnets().iter().any(|half| half == subnet));
    let announced = || {
        entry
            .public()
            .iter()
            .any(|ip| ip.parse::<IpAddr>().ok() == text.parse().ok())
    };
    let is_address = text.parse::<IpAddr>().is_ok();
    entry.name == text
        || entry.lease.is_some() && subnets(text).is_ok_and(|subnets| subnets == entry.subnets())
        || is_half()
        || is_address && announced()
        || entry.host().is_some_and(|host| host == text)
}

fn holds(entry: &InventoryEntry, text: &str) -> bool {
    text.parse()
        .is_ok_and(|ip: IpAddr| entry.subnets().iter().any(|half| half.contains(ip)))
}

/// Parses subnets: `172.30.5.0/24`, `172.30.5.0/24,fd30:0:0:5::/64`, or a key. Returns what is wrong with them.
pub fn subnets(text: &str) -> Result<Subnets, String> {
    if let Ok(subnets) = key::parse(text) {
        return Ok(subnets);
    }
    let mut subnets = Subnets::default();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let net = cidr::any(part)
            .ok_or_else(|| format!("{part:?} is not a subnet like 172.30.5.0/24"))?;
        if !part.starts_with(&net.ip().to_string()) {
            return Err(format!("{part} has host bits: the subnet is {net}"));
        }
        if subnets.of(Family::of(net.ip())).is_some() {
            return Err(format!(
                "{text:?} has two subnets of one family: give at most one of each"
            ));
        }
        subnets = subnets.iter().chain([net]).collect();
    }
    if subnets == Subnets::default() {
        Err("no subnet was given".into())
    } else {
        Ok(subnets)
    }
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::inventory;
    use super::*;

    #[test]
    fn a_lease_is_found_by_all_that_it_is_known_by() {
        let inventory = inventory(&[
            ("10.5.1.0-24", r#"{"PublicIP":"192.0.2.1"}"#, Some("h1")),
            (
                "10.5.2.0-24&fd05:0:0:2::-64",
                r#"{"PublicIP":"192.0.2.2","PublicIPv6":"fd10::2"}"#,
                None,
            ),
            ("rubbish", "{}", None),
        ]);
        for (text, name) in [
            ("10.5.1.0/24", "10.5.1.0-24"),
            ("10.5.1.0-24", "10.5.1.0-24"),
            ("192.0.2.1", "10.5.1.0-24"),
            ("h1", "10.5.1.0-24"),
            ("10.5.1.77", "10.5.1.0-24"),
            ("fd05:0:0:2::/64", "10.5.2.0-24&fd05:0:0:2::-64"),
            ("10.5.2.0/24,fd05:0:0:2::/64", "10.5.2.0-24&fd05:0:0:2::-64"),
            ("fd10::2", "10.5.2.0-24&fd05:0:0:2::-64"),
            ("fd05:0:0:2::7", "10.5.2.0-24&fd05:0:0:2::-64"),
            ("rubbish", "rubbish"),
        ] {
            assert_eq!(
                entry(&inventory, text).map(|entry| entry.name.as_str()),
                Ok(name),
                "{text}"
            );
        }
        for text in ["10.5.9.0/24", "192.0.2.9", "h2", ""] {
            assert!(
                entry(&inventory, text)
                    .unwrap_err()
                    .contains("no lease below /net/subnets"),
                "{text}"
            );
        }
    }

    #[test]
    fn two_leases_of_one_host_are_not_chosen_between() {
        let value = r#"{"PublicIP":"192.0.2.1"}"#;
        let inventory = inventory(&[("10.5.1.0-24", value, None), ("10.5.2.0-24", value, None)]);
        let error = entry(&inventory, "192.0.2.1").unwrap_err();
        assert!(error.contains("10.5.1.0/24, 10.5.2.0/24"), "{error}");
    }

    #[test]
    fn subnets_are_read_strictly() {
        assert_eq!(subnets("10.5.1.0/24").unwrap().to_string(), "10.5.1.0/24");
        assert_eq!(
            subnets("10.5.1.0/24,fd05::/64").unwrap().to_string(),
            "10.5.1.0/24 fd05::/64"
        );
        for (text, words) in [
            ("10.5.1.7/24", "host bits: the subnet is 10.5.1.0/24"),
            ("10.5.1.0/24,10.5.2.0/24", "two subnets of one family"),
            ("10.5.1.0", "is not a subnet"),
            ("", "no subnet was given"),
        ] {
            let error = subnets(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
