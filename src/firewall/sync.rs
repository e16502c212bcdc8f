//! One look at the firewall: what the programs print, and what they have to be told.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;

use tracing::warn;

use super::desired::DesiredRules;
use super::exec::{ExecError, Version, run};
use super::iptables::{self, Table};
use super::nft;
use super::tables::Tables;
use crate::util::family::Family;

/// Seconds to wait for the lock of iptables-legacy.
const LOCK: &str = "5";

#[derive(Debug)]
pub(super) struct Iptables {
    family: Family,
    /// What the names of its programs end in, where it is not the one of the host's choice.
    variant: &'static str,
    version: Option<Version>,
    /// A rule because of which flannel's rules for forwarded packets never count.
    pub(super) obstacle: Option<String>,
}

impl Iptables {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            variant: "",
            version: None,
            obstacle: None,
        }
    }

    /// The one that is not of the host's choice. The choice may have been another one before, and rules of both count.
    pub(super) fn other(&self) -> Option<Self> {
        let Self {
            family, version, ..
        } = *self;
        let version = version?;
        let variant = if version.nft { "-legacy" } else { "-nft" };
        Some(Self {
            family,
            variant,
            version: Some(version.other()),
            obstacle: None,
        })
    }

    /// Whether its changes are heard of, once it is known what it is.
    pub(super) fn sends_notifications(&self) -> Option<bool> {
        self.version.map(|version| version.nft)
    }

    fn program(&self, suffix: &str) -> String {
        let name = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{name}{}{suffix}", self.variant)
    }

    /// What `iptables-restore` has to be told, if anything.
    pub(super) async fn difference(
        &mut self,
        desired: &DesiredRules,
        nftables: &Tables,
    ) -> Result<Option<String>, ExecError> {
        let saves = self.has_tables(nftables);
        if !saves && !desired.needs_iptables() {
            self.obstacle = None;
            return Ok(None);
        }
        let (version, saved) = tokio::try_join!(self.version(), self.saved(saves))?;
        self.version = Some(version);
        let (nat, filter) = (self.table(&saved, "nat")?, self.table(&saved, "filter")?);
        let dropping = filter.drops(iptables::FORWARD.hook);
        let mine = desired.mine(self.family);
        let [masquerade, forward] =
            desired.iptables(self.family, version.has_random_fully(), dropping);
        let obstacle = filter
            .obstacle(iptables::FORWARD)
            .filter(|_| !forward.1.rules.is_empty());
        let obstacle = obstacle.map(|rule| {
            let program = self.program("");
            format!(
                "{program}: the rule `{rule}` of FORWARD rejects the packets of pods before flannel's rules accept them; move it to the end ({program} -D FORWARD {rule}; {program} -A FORWARD {rule})"
            )
        });
        if let Some(obstacle) = obstacle.as_ref().filter(|_| obstacle != self.obstacle) {
            warn!(program = self.program(""), err = obstacle, "{obstacle}");
        }
        self.obstacle = obstacle;
        Ok(iptables::batch(&[
            ("nat", nat.difference(masquerade.0, &masquerade.1, &mine)),
            ("filter", filter.difference(forward.0, &forward.1, &mine)),
        ]))
    }

    async fn version(&self) -> Result<Version, ExecError> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let program = self.program("");
        let text = run(&program, &["--version"], "").await?;
        let strange = || ExecError::Refused {
            program,
            why: format!("cannot parse its version {:?}", text.trim()),
        };
        Version::read(&text).ok_or_else(strange)
    }

    /// All tables there are. Without a table's name iptables-legacy loads none.
    async fn saved(&self, saves: bool) -> Result<String, ExecError> {
        if !saves {
            return Ok(String::new());
        }
        run(&self.program("-save"), &[], "").await
    }

    /// Whether the kernel has any table in which this variant may have rules; of either one, if it is not known which this is.
    fn has_tables(&self, nftables: &Tables) -> bool {
        let of_nft = || {
            let family = nft::table(self.family).family;
            ["nat", "filter"]
                .iter()
                .any(|name| nftables.has(family, name))
        };
        match self.sends_notifications() {
            Some(true) => of_nft(),
            Some(false) => self.is_loaded(),
            None => of_nft() || self.is_loaded(),
        }
    }

    /// Whether the kernel has any table of iptables-legacy.
    fn is_loaded(&self) -> bool {
        let file = match self.family {
            Family::V4 => "/proc/net/ip_tables_names",
            Family::V6 => "/proc/net/ip6_tables_names",
        };
        match std::fs::read_to_string(file) {
            Ok(names) => !names.trim().is_empty(),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    fn table(&self, saved: &str, name: &str) -> Result<Table, ExecError> {
        if saved.contains(&format!("Table `{name}' is incompatible")) {
            let (program, table) = (self.program("-save"), name.to_owned());
            return Err(ExecError::Foreign { program, table });
        }
        Ok(Table::read(saved, name))
    }

    /// Writes, each table at once.
    pub(super) async fn write(&self, batch: &str) -> Result<(), ExecError> {
        let waits = self.version.is_some_and(Version::restore_waits);
        let mut args = vec!["--noflush"];
        args.extend(["-w", LOCK].iter().filter(|_| waits));
        run(&self.program("-restore"), &args, batch).await.map(drop)
    }
}

#[derive(Debug, Default)]
pub(super) struct Nft {
    /// What it can do besides: comments, random ports.
    can: Option<(bool, bool)>,
}

impl Nft {
    /// What `nft -f` has to be told, if anything. `peers`: whom the source filter admits, once that is known.
    pub(super) async fn difference(
        &mut self,
        desired: &DesiredRules,
        peers: Option<&BTreeSet<IpAddr>>,
        tables: &Tables,
    ) -> Result<Option<String>, ExecError> {
        let mut lines = Vec::new();
        for family in desired.families() {
            let name = nft::table(family);
            let there = list(tables, &name).await?;
            let there = there.map(|json| nft::Table::read(&json));
            if there.is_some() || desired.needs_nft() {
                let (comments, random) = self.can().await;
                let (wanted, mine) = (desired.nft(family, random), desired.mine(family));
                let there = there.as_ref();
                lines.extend(nft::difference(&name, there, &wanted, &mine, comments));
            }
        }
        // Until the peers are known, a filter of an earlier life stays as it is.
        if peers.is_some() || !desired.config.source_filter {
            let name = desired.tunnel.table();
            let there = list(tables, &name).await?;
            let peers = peers.filter(|_| desired.config.source_filter);
            lines.extend(desired.tunnel.difference(there.as_deref(), peers));
        }
        Ok(Some(lines.join("\n")).filter(|text| !text.is_empty()))
    }

    /// Found out by having nft check what it would do.
    async fn can(&mut self) -> (bool, bool) {
        if let Some(can) = self.can {
            return can;
        }
        let comment = "add table ip flannel-probe { comment \"probe\" ; }";
        let random = "add table ip flannel-probe\n\
            add chain ip flannel-probe c { type nat hook postrouting priority 100 ; }\n\
            add rule ip flannel-probe c masquerade fully-random";
        let args = ["-c", "-f", "-"];
        let (comments, random) =
            tokio::join!(run("nft", &args, comment), run("nft", &args, random));
        *self.can.insert((comments.is_ok(), random.is_ok()))
    }

    pub(super) async fn write(&self, commands: &str) -> Result<(), ExecError> {
        run("nft", &["-f", "-"], commands).await.map(drop)
    }
}

/// What there is of a table, if it is one of `tables`.
async fn list(
    tables: &Tables,
    nft::Name { family, name }: &nft::Name,
) -> Result<Option<String>, ExecError> {
    if !tables.has(family, name) {
        return Ok(None);
    }
    let args = ["-j", "list", "table", family, name];
    run("nft", &args, "").await.map(Some)
}
