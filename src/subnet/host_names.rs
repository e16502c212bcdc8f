//! Names of the hosts that hold leases: pure.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::Subnets;
use super::owner::MachineId;

/// Host names by each subnet that the host holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNames(BTreeMap<IpNetwork, String>);

impl HostNames {
    /// Returns the name of the host that holds these subnets, if it is known.
    pub fn of(&self, subnets: &Subnets) -> Option<&str> {
        let name = subnets.iter().find_map(|net| self.0.get(&net));
        name.map(String::as_str)
    }

    /// Returns the name of the host that holds the subnets of this text, as [`Subnets`] are displayed.
    pub fn of_text(&self, text: &str) -> Option<&str> {
        let nets = text
            .split(' ')
            .filter_map(|net| net.parse::<IpNetwork>().ok());
        self.of(&nets.collect())
    }
}

impl<'a> FromIterator<(Subnets, &'a MachineId)> for HostNames {
    fn from_iter<I: IntoIterator<Item = (Subnets, &'a MachineId)>>(owners: I) -> Self {
        let mut names = BTreeMap::new();
        for (subnets, machine) in owners {
            if !machine.host().is_empty() {
                names.extend(subnets.iter().map(|net| (net, machine.host().to_owned())));
            }
        }
        Self(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_found_by_each_subnet_and_by_text() {
        let subnets =
            |nets: &str| -> Subnets { nets.split(' ').map(|net| net.parse().unwrap()).collect() };
        let [first, unnamed] = ["h1", ""].map(|host| MachineId::new("id", "boot", host));
        let owners = [
            (subnets("10.5.1.0/24 fd05::/64"), &first),
            (subnets("10.5.2.0/24"), &unnamed),
        ];
        let names: HostNames = owners.into_iter().collect();
        for known in ["10.5.1.0/24", "fd05::/64", "10.5.1.0/24 fd05::/64"] {
            assert_eq!(
                (names.of(&subnets(known)), names.of_text(known)),
                (Some("h1"), Some("h1")),
                "{known}"
            );
        }
        for unknown in ["10.5.2.0/24", "10.5.3.0/24", "none", ""] {
            assert_eq!(names.of_text(unknown), None, "{unknown}");
        }
    }
}
