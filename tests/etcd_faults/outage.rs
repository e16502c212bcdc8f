//! The shape of every test about an outage.

use std::time::Duration;

use lab::{Lab, LabError, Node, wait_until};

use crate::monitor::{Knocks, Pings, Silence};
use crate::{Test, connected, log, peers};

/// A dead path is noticed by pings on the connection (15 s), or by a watch that answers no probes (30 s).
pub(crate) const NOTICED: Duration = Duration::from_secs(40);
/// From the end of an outage to the last change in the kernel: pauses of at most 5 s, and a few seconds for members
/// that do not answer.
pub(crate) const RECOVERED: Duration = Duration::from_secs(25);
/// Connections that one host may try to make in an outage of a minute: pauses grow to 5 s, and each attempt may try three
/// members twice. Without pauses there are hundreds in a few seconds.
const KNOCKS: u32 = 200;
/// Lines that one outage of a few seconds may cost on one host, with those about the changed peers.
pub(crate) const LINES: usize = 16;

/// An outage that has begun: what was before.
pub(crate) struct Outage {
    what: &'static str,
    pings: Vec<Pings>,
    silence: Vec<Silence>,
    knocks: Vec<Knocks>,
    hosts: Vec<Before>,
}

/// A host before the outage.
struct Before {
    pid: Option<u32>,
    lines: usize,
    bytes: usize,
}

impl Outage {
    /// Prepares peers and starts to watch all hosts; each pings the next.
    pub(crate) fn begin(what: &'static str, lab: &mut Lab) -> Result<Self, LabError> {
        peers::prepare(lab)?;
        let count = lab.hosts().len();
        let mut hosts = Vec::new();
        for index in 1..=count {
            let pid = lab.flanneld(index)?.process().pid();
            let log = log(lab.host(index));
            hosts.push(Before {
                pid,
                lines: log.lines().count(),
                bytes: log.len(),
            });
        }
        let pings = (1..=count)
            .map(|index| Pings::begin(lab, index, index % count + 1))
            .collect::<Result<_, _>>()?;
        let silence = lab
            .hosts()
            .iter()
            .map(|host| Silence::begin(host.node()))
            .collect::<Result<_, _>>()?;
        let knocks = lab
            .hosts()
            .iter()
            .map(|host| Knocks::begin(host.node()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            what,
            pings,
            silence,
            knocks,
            hosts,
        })
    }

    /// Waits until every daemon has noticed.
    pub(crate) fn noticed(&self, lab: &Lab) {
        for (host, before) in lab.hosts().iter().zip(&self.hosts) {
            self.noticed_by(host.node(), before);
        }
    }

    fn noticed_by(&self, host: &Node, before: &Before) {
        let lost = || log(host)[before.bytes..].contains("lost the watch of the leases");
        let noticed = wait_until(NOTICED, lost);
        let said = &log(host)[before.bytes..];
        assert!(
            noticed,
            "{}: {} does not notice that the watch is lost; it says {said}",
            self.what,
            host.name()
        );
    }

    /// Ends the silence: nothing in the kernel changed so far. Called before the changes can be seen.
    pub(crate) fn was_silent(&mut self) {
        for silence in self.silence.drain(..) {
            let broken = silence.broken_by();
            assert!(
                broken.is_empty(),
                "{}: the data plane changed: {broken:?}",
                self.what
            );
        }
    }

    /// The outage is over and `peers::change` was done meanwhile: all catches up, and nothing was lost on the way.
    pub(crate) fn ends(self, lab: &mut Lab) -> Test {
        peers::all_converged(lab, RECOVERED)?;
        for pings in self.pings {
            let (lost, answered) = pings.end()?;
            assert!(
                lost.is_empty() && answered > 0,
                "{}: lost {lost:?} of {answered} pings",
                self.what
            );
        }
        for knocks in self.knocks {
            let count = knocks.count()?;
            assert!(
                count <= KNOCKS,
                "{}: {count} connections were tried",
                self.what
            );
        }
        for (index, before) in (1..).zip(&self.hosts) {
            assert_eq!(
                lab.flanneld(index)?.process().pid(),
                before.pid,
                "{}: the same daemon",
                self.what
            );
            let log = log(lab.host(index));
            let said: Vec<&str> = log.lines().skip(before.lines).collect();
            assert!(
                said.len() <= LINES,
                "{}: {} lines: {said:#?}",
                self.what,
                said.len()
            );
        }
        connected(lab)
    }
}

/// An outage of all hosts from `begin` to `end`. Peers change in `end`, or before.
pub(crate) fn outage(
    what: &'static str,
    lab: &mut Lab,
    begin: impl FnOnce(&mut Lab) -> Test,
    end: impl FnOnce(&mut Lab) -> Test,
) -> Test {
    let mut outage = Outage::begin(what, lab)?;
    begin(lab)?;
    outage.noticed(lab);
    outage.was_silent();
    end(lab)?;
    outage.ends(lab)
}
