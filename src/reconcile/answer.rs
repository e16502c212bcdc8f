//! The loop's part of the daemon's report: made when somebody asks, from what the loop knows anyway.

use std::fmt::Display;

use tokio::sync::watch;
use tokio::time::Instant;

use super::tally::{Missing, Wish};
use super::{Reconciler, Subject, report};
use crate::kernel::Kernel;
use crate::observe::report::{Device, Entries, NAMED, Named, Overlay, Peers, Reconcile, Underlay};
use crate::observe::{Answer, Ask, Timings};
use crate::subnet::{LeaseAttrs, Standing};

impl<K: Kernel> Reconciler<'_, K> {
    /// Whoever has given up waiting costs nothing.
    pub(super) fn answer(&mut self, ask: Ask, wanted: &watch::Sender<LeaseAttrs>) {
        if !ask.is_closed() {
            let timings = Timings { batches: self.tally.batches.clone(), delays: self.tally.delays.clone() };
            let answer = Answer { overlay: self.overlay(&wanted.borrow()), timings };
            let _ = ask.send(answer);
        }
    }

    fn overlay(&mut self, published: &LeaseAttrs) -> Overlay {
        let now = Instant::now();
        let wish = self.wish();
        let missing = self.tally.missing.keys().copied().collect();
        Overlay {
            subnet: self.desired.own().subnets.to_string(),
            held: (now - self.since).as_secs_f64(),
            standing: standing(self.standing).into(),
            lost: report::lost(self.standing),
            public_ips: texts(published.public_ip, published.public_ipv6),
            network: self.setup.network.source.get().to_owned(),
            underlay: self.underlay(),
            devices: self.devices(),
            listed: self.desired.is_complete(),
            settled: self.settled,
            stale: self.remembered.as_ref().map(|r| r.saved.elapsed().unwrap_or_default().as_secs_f64()),
            trouble: self.trouble.clone(),
            kernel: self.tally.kernel.clone(),
            peers: self.peers(&wish),
            entries: Entries { desired: wish.entries, missing },
            reconcile: self.work(now),
        }
    }

    /// Worked out anew when it has changed since somebody asked.
    fn wish(&mut self) -> Wish {
        let desired = &self.desired;
        let make = || {
            let contests = desired.contests();
            let named = contests.iter().take(NAMED).map(|(subnets, contest)| Named {
                subnet: subnets.to_string(),
                why: format!("{} is newer and has {}", contest.winner, contest.item),
            });
            Wish { entries: desired.slots().collect(), contested: contests.len(), contests: named.collect() }
        };
        self.tally.wish.get_or_insert_with(make).clone()
    }

    fn peers(&self, wish: &Wish) -> Peers {
        let (desired, missing) = (self.desired.peer_count(), &self.tally.missing);
        let failing = missing.iter().filter_map(|(slot, why)| Some((self.desired.holder(*slot)?, slot, why)));
        let failing = failing.take(NAMED).map(|(subnets, slot, why)| Named {
            subnet: subnets.to_string(),
            why: match why {
                Missing::Failed(why) => why.clone(),
                Missing::Contended => {
                    format!("another program keeps changing {}", self.name(Subject::Entry(*slot)))
                }
            },
        });
        let refusals = self.desired.refusals().take(NAMED);
        Peers {
            desired,
            installed: desired - self.desired.holders(missing.keys()).len().min(desired),
            failing: failing.collect(),
            refused: self.desired.refused_count(),
            refusals: refusals
                .map(|(subnets, why)| Named { subnet: subnets.to_string(), why: why.to_string() })
                .collect(),
            contested: wish.contested,
            contests: wish.contests.clone(),
        }
    }

    fn work(&self, now: Instant) -> Reconcile {
        let [clean, repaired, failed] = self.tally.audits;
        Reconcile {
            clean,
            repaired,
            failed,
            last: self.tally.last.map(|(at, _)| (now - at).as_secs_f64()),
            took: self.tally.last.map_or(0.0, |(_, took)| took.as_secs_f64()),
            events: self.tally.events,
            repairs: self.tally.repairs,
            failures: self.tally.failures,
            quarrels: self.tally.quarrels,
            quarrelled: self.quarrels.insistent().take(NAMED).map(|subject| self.name(*subject)).collect(),
        }
    }

    fn name(&self, subject: Subject) -> String {
        match subject {
            Subject::Device(dev) => {
                let links = self.survey.backend.links();
                let name = links.iter().find(|(one, _)| *one == dev).map(|(_, spec)| spec.name.as_str());
                format!("device {}", name.unwrap_or_default())
            }
            Subject::Entry(slot) => {
                self.desired.item(slot).map_or_else(|| format!("{slot:?}"), |item| item.to_string())
            }
        }
    }

    fn underlay(&self) -> Underlay {
        let underlay = &self.survey.underlay;
        let ips = texts(underlay.v4, underlay.v6);
        Underlay { name: underlay.name.clone(), ips, mtu: underlay.mtu }
    }

    fn devices(&self) -> Vec<Device> {
        let links = self.survey.backend.links().into_iter();
        links
            .map(|(_, spec)| Device {
                name: spec.name,
                mac: spec.mac.to_string(),
                mtu: spec.mtu,
                vni: spec.vni,
                port: spec.port,
                local: spec.local.to_string(),
            })
            .collect()
    }
}

/// An address of each family, as far as there is one.
fn texts(v4: Option<impl Display>, v6: Option<impl Display>) -> Vec<String> {
    v4.map(|ip| ip.to_string()).into_iter().chain(v6.map(|ip| ip.to_string())).collect()
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Held => "held",
        Standing::Taken { .. } => "taken",
        Standing::Twin { .. } => "twin",
        Standing::Outdated => "outdated",
    }
}
