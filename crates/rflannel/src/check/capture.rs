//! Combines captured packets into how far requests and replies got. Pure.

use std::net::IpAddr;

use super::evidence::Echo;
use flanneld::kernel::Mac;
use flanneld::probe::packet::Seen;
use flanneld::probe::ping::Outcome;

/// Identifies the probe that an echo request belongs to, in the high byte of the sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Question {
    Overlay = 0x0100,
    Underlay = 0x0200,
    /// On the underlay, from any source address.
    AnySource = 0x0300,
    /// In a handmade frame.
    Handmade = 0x0400,
    /// In a handmade frame, with a reply over the underlay.
    ByUnderlay = 0x0500,
    /// As large as the device's MTU.
    Full = 0x0600,
    Pod = 0x0700,
}

impl Question {
    /// Returns the sequence number of the first attempt.
    pub fn first(self) -> u16 {
        self as u16
    }

    fn is_of(self, seq: u16) -> bool {
        seq & 0xff00 == self.first()
    }
}

/// Addresses of the two ends of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// This host's address in the overlay.
    pub here: IpAddr,
    /// MAC of this host's device.
    pub mac: Mac,
    /// The peer's address in the overlay.
    pub there: IpAddr,
    /// The peer's public address.
    pub public: IpAddr,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// A request left through the tunnel.
    pub left: bool,
    /// The reply arrived on the underlay interface, in the tunnel.
    pub at_nic: bool,
    /// The reply arrived on the overlay device.
    pub at_device: bool,
    /// Destination MAC of the reply, if it is not that of this host's device.
    pub other_mac: Option<Mac>,
    /// The underlay probe was answered.
    pub underlay: bool,
    /// The handmade frame was answered through the overlay.
    pub handmade: bool,
    /// The handmade frame was answered over the underlay.
    pub by_underlay: bool,
    /// MAC that answers ARP requests for the peer's overlay address in the tunnel.
    pub owner: Option<Mac>,
}

impl Capture {
    /// Records a captured packet.
    pub fn take(&mut self, seen: Seen, ends: &Ends) {
        match seen {
            Seen::Tunnelled { macs, echo, .. } if echo.is_reply && echo.source == ends.there => {
                if Question::Overlay.is_of(echo.mark.seq) {
                    self.at_nic = true;
                    self.other_mac = Some(macs.1).filter(|mac| *mac != ends.mac);
                }
                self.handmade |= Question::Handmade.is_of(echo.mark.seq);
            }
            Seen::Tunnelled { echo, .. } => {
                self.left |= !echo.is_reply
                    && echo.to == ends.there
                    && Question::Overlay.is_of(echo.mark.seq);
            }
            Seen::Plain(echo) if echo.is_reply => {
                let of = |question: Question| question.is_of(echo.mark.seq);
                let is_ours = echo.source == ends.there && echo.to == ends.here;
                self.at_device |= is_ours && of(Question::Overlay);
                self.by_underlay |= echo.source == ends.there && of(Question::ByUnderlay);
                self.underlay |= echo.source == ends.public && of(Question::Underlay);
            }
            Seen::Owner { ip, mac, .. } if IpAddr::V4(ip) == ends.there => self.owner = Some(mac),
            Seen::Plain(_) | Seen::Owner { .. } => {}
        }
    }

    /// Returns whether all handmade frames were answered.
    pub fn is_complete(&self) -> bool {
        self.handmade && self.by_underlay && self.owner.is_some()
    }

    /// Returns how far the overlay probe and its reply got.
    pub fn overlay(&self, outcome: Outcome) -> Echo {
        progress(outcome, self.at_nic, self.at_device)
    }

    /// Returns how far the underlay probe and its reply got.
    pub fn underlay(&self, outcome: Outcome) -> Echo {
        progress(outcome, self.underlay, false)
    }
}

/// Combines the outcome of a probe with where its reply was captured.
pub fn progress(outcome: Outcome, at_nic: bool, at_device: bool) -> Echo {
    match outcome {
        Outcome::Answered(time) => Echo::Answered(time),
        Outcome::Refused(why) => Echo::Refused(why),
        Outcome::Silent if at_device => Echo::AtDevice,
        Outcome::Silent if at_nic => Echo::AtNic,
        Outcome::Silent => Echo::Silent,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use flanneld::probe::packet::{Echo as Packet, Mark};

    const HERE: [u8; 4] = [10, 5, 1, 0];
    const THERE: [u8; 4] = [10, 5, 2, 0];
    const HOST: [u8; 4] = [10, 64, 0, 1];
    const PEER: [u8; 4] = [10, 64, 0, 2];
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn ends() -> Ends {
        Ends {
            here: HERE.into(),
            mac: MAC,
            there: THERE.into(),
            public: PEER.into(),
        }
    }

    fn echo(source: [u8; 4], to: [u8; 4], question: Question, is_reply: bool) -> Packet {
        let mark = Mark {
            id: 1,
            seq: question.first() + 2,
        };
        Packet {
            source: source.into(),
            to: to.into(),
            mark,
            is_reply,
        }
    }

    fn tunnelled(out: bool, mac: Mac, echo: Packet) -> Seen {
        let hosts = if out { (HOST, PEER) } else { (PEER, HOST) };
        Seen::Tunnelled {
            hosts: (hosts.0.into(), hosts.1.into()),
            macs: (OTHER, mac),
            echo,
        }
    }

    fn after(seen: &[Seen]) -> Capture {
        let mut notes = Capture::default();
        seen.iter().for_each(|seen| notes.take(*seen, &ends()));
        notes
    }

    #[test]
    fn each_sight_is_one_note() {
        let q = Question::Overlay;
        let none = Capture::default();
        for (seen, want) in [
            (
                tunnelled(true, OTHER, echo(HERE, THERE, q, false)),
                Capture { left: true, ..none },
            ),
            (
                tunnelled(false, MAC, echo(THERE, HERE, q, true)),
                Capture {
                    at_nic: true,
                    ..none
                },
            ),
            (
                tunnelled(false, OTHER, echo(THERE, HERE, q, true)),
                Capture {
                    at_nic: true,
                    other_mac: Some(OTHER),
                    ..none
                },
            ),
            (
                Seen::Plain(echo(THERE, HERE, q, true)),
                Capture {
                    at_device: true,
                    ..none
                },
            ),
            (Seen::Plain(echo(HERE, THERE, q, false)), none),
            (
                tunnelled(false, MAC, echo(THERE, HERE, Question::Handmade, true)),
                Capture {
                    handmade: true,
                    ..none
                },
            ),
            (
                Seen::Plain(echo(THERE, HOST, Question::ByUnderlay, true)),
                Capture {
                    by_underlay: true,
                    ..none
                },
            ),
            (
                Seen::Plain(echo(PEER, HOST, Question::Underlay, true)),
                Capture {
                    underlay: true,
                    ..none
                },
            ),
            (
                Seen::Owner {
                    host: PEER.into(),
                    ip: THERE.into(),
                    mac: OTHER,
                },
                Capture {
                    owner: Some(OTHER),
                    ..none
                },
            ),
            (
                Seen::Owner {
                    host: PEER.into(),
                    ip: HERE.into(),
                    mac: OTHER,
                },
                none,
            ),
        ] {
            assert_eq!(after(&[seen]), want, "{seen:?}");
        }
    }

    #[test]
    fn the_furthest_place_counts() {
        let time = Duration::from_millis(1);
        let far = Capture {
            at_nic: true,
            at_device: true,
            ..Capture::default()
        };
        assert_eq!(far.overlay(Outcome::Answered(time)), Echo::Answered(time));
        assert_eq!(far.overlay(Outcome::Silent), Echo::AtDevice);
        assert_eq!(
            Capture {
                at_device: false,
                ..far
            }
            .overlay(Outcome::Silent),
            Echo::AtNic
        );
        assert_eq!(Capture::default().underlay(Outcome::Silent), Echo::Silent);
    }
}
