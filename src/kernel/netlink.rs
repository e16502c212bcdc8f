//! The real kernel, through rtnetlink.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NetlinkMessage};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tracing::debug;

use super::decode::{Message, Object, RouteParts};
use super::dump_requests::{dump_requests, is_answer, routes};
use super::host_state::{HostState, LinkFact, Query, Reachability, Route};
use super::link::{Fit, LinkSpec, Repair};
use super::monitor::Monitor;
use super::notification::Notification;
use super::offload::Offload;
use super::socket::{Refusal, RouteSocket};
use super::{Ensured, Failure, Kernel, KernelError, Owned};
use super::{Entry, LinkRole, Op, encode};
use crate::config::TxChecksum;
use crate::util::device_lock::DeviceLock;
use crate::util::family::Family;

/// One socket and the interface indexes that play a part.
pub struct Netlink {
    socket: RouteSocket,
    monitor: Option<Monitor>,
    indexes: BTreeMap<LinkRole, u32>,
    offload: Offload,
}

impl Netlink {
    /// Opens the socket in this process's network namespace.
    ///
    /// # Errors
    /// When the kernel offers no rtnetlink.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: RouteSocket::open()?,
            monitor: None,
            indexes: BTreeMap::new(),
            offload: Offload::default(),
        })
    }

    /// Has checksums of the devices' packets computed where that is configured.
    #[must_use]
    pub fn with_checksums(self, mode: TxChecksum) -> Self {
        Self {
            offload: Offload::new(mode),
            ..self
        }
    }

    /// Finds the device that plays the part `dev`, and changes nothing.
    ///
    /// # Errors
    /// When the devices cannot be read.
    pub fn recognise(
        &mut self,
        dev: LinkRole,
        name: &str,
    ) -> Result<Option<LinkFact>, KernelError> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        self.indexes
            .extend(found.iter().map(|link| (dev, link.index)));
        Ok(found)
    }

    fn links(&mut self) -> Result<Vec<LinkFact>, KernelError> {
        self.socket.dump(
            &RouteNetlinkMessage::GetLink(LinkMessage::default()),
            |answer| answer.link(),
        )
    }

    fn default_links(
        &mut self,
        query: bool,
        family: AddressFamily,
    ) -> Result<Vec<u32>, KernelError> {
        if !query {
            return Ok(Vec::new());
        }
        let mut defaults = self.all_routes(family, RouteParts::default_route)?;
        defaults.sort_by_key(|(_, metric)| *metric);
        Ok(defaults.into_iter().map(|(link, _)| link).collect())
    }

    fn routes(&mut self) -> Result<Vec<Route>, KernelError> {
        let mut routes = Vec::new();
        for family in Family::ALL {
            routes.append(
                &mut self.all_routes(encode::family(family), RouteParts::route_to_network)?,
            );
        }
        Ok(routes)
    }

    fn all_routes<T>(
        &mut self,
        family: AddressFamily,
        read: impl Fn(&RouteParts) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        let request = RouteNetlinkMessage::GetRoute(routes(family, None));
        self.socket
            .dump(&request, |answer| read(&route_parts(answer)?))
    }

    /// The kernel's own decision. A refusal means that there is no way.
    fn reach(&mut self, ip: IpAddr) -> Result<Option<Reachability>, KernelError> {
        let mut question = RouteMessage::default();
        question.header.address_family = encode::family(Family::of(ip));
        question.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        question
            .attributes
            .push(RouteAttribute::Destination(ip.into()));
        self.socket
            .ask(&RouteNetlinkMessage::GetRoute(question), |answer| {
                route_parts(answer)?.reach()
            })
    }

    /// Sends one message; `what` says in the error what was tried.
    fn request(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), KernelError> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        match self.socket.send(std::iter::once(message))?.pop() {
            None => Ok(()),
            Some(Refusal { errno, text, .. }) => Err(KernelError::Refused {
                what: what.into(),
                errno,
                text,
            }),
        }
    }

    fn create(&mut self, spec: &LinkSpec) -> Result<(), KernelError> {
        let what = format!(
            "create device {} (VNI {}, UDP port {})",
            spec.name, spec.vni, spec.port
        );
        let message = RouteNetlinkMessage::NewLink(creation(spec));
        self.request(&what, message, NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|error| self.explain(error, spec))
    }

    /// Says who is in the way of a new device.
    fn explain(&mut self, error: KernelError, spec: &LinkSpec) -> KernelError {
        let KernelError::Refused { what, errno, text } = error else {
            return error;
        };
        let port = spec.port;
        let text = match errno {
            Errno::EXIST => self.conflicting_device(spec).map(|name| {
                format!("device {name} already uses this VNI and port; delete it (ip link del {name}), or choose another VNI or Port in Backend")
            }),
            Errno::ADDRINUSE => Some(format!(
                "another program has UDP port {port} open; stop it (find it with: ss -ulpn sport = {port}), or choose another Port in Backend"
            )),
            _ => None,
        }
        .or(text);
        KernelError::Refused { what, errno, text }
    }

    fn conflicting_device(&mut self, spec: &LinkSpec) -> Option<String> {
        let links = self.links().ok()?;
        // Over IPv4 and IPv6 the same VNI and port do not meet.
        let parameters = (spec.vni, spec.port, Family::of(spec.local));
        let same = |link: &LinkFact| {
            link.vxlan
                .as_ref()
                .is_some_and(|v| (v.vni, v.port, v.underlay()) == parameters)
        };
        links.into_iter().find(same).map(|link| link.name)
    }

    fn repair(
        &mut self,
        found: &LinkFact,
        spec: &LinkSpec,
        repair: Repair,
    ) -> Result<(), KernelError> {
        let what = format!("set {repair} on {}", found.name);
        let plain = LinkUnspec::new_with_index(found.index);
        let vxlan = LinkMessageBuilder::<LinkVxlan>::new(&spec.name)
            .index(found.index)
            .id(spec.vni);
        let message = match repair {
            Repair::Mac(mac) => RouteNetlinkMessage::SetLink(plain.address(mac.0.to_vec()).build()),
            Repair::Mtu(mtu) => RouteNetlinkMessage::SetLink(plain.mtu(mtu).build()),
            Repair::Up => RouteNetlinkMessage::SetLink(plain.up().build()),
            Repair::Learning(on) => RouteNetlinkMessage::NewLink(vxlan.learning(on).build()),
            Repair::Parent(index) => RouteNetlinkMessage::NewLink(vxlan.dev(index).build()),
            Repair::Local(IpAddr::V4(ip)) => RouteNetlinkMessage::NewLink(vxlan.local(ip).build()),
            Repair::Local(IpAddr::V6(ip)) => RouteNetlinkMessage::NewLink(vxlan.local6(ip).build()),
        };
        self.request(&what, message, 0)
            .map_err(|error| self.explain(error, spec))
    }

    fn delete(&mut self, index: u32) -> Result<(), KernelError> {
        let message = RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(index).build());
        match self.request("delete the old device", message, 0) {
            Err(KernelError::Refused {
                errno: Errno::NODEV,
                ..
            }) => Ok(()),
            other => other,
        }
    }

    fn write(&mut self, ops: &[Op]) -> Result<Vec<Failure>, KernelError> {
        let index_of = |dev| self.indexes.get(&dev).copied().unwrap_or_default();
        let refusals = self
            .socket
            .send(ops.iter().map(|op| encode::encode(op, index_of)))?;
        let failures = refusals.into_iter().filter_map(
            |Refusal {
                 position,
                 errno,
                 text,
             }| {
                Some(Failure {
                    op: *ops.get(position)?,
                    errno,
                    text,
                })
            },
        );
        Ok(failures.filter(|failure| !already_so(failure)).collect())
    }

    /// An IPv6 address is denied where the device has IPv6 switched off.
    fn advise(&mut self, failure: &mut Failure) {
        if let (Op::Set(Entry::Addr { dev, .. }), Errno::ACCESS) = (failure.op, failure.errno)
            && let Some(index) = self.indexes.get(&dev).copied()
            && let Some(link) = self
                .links()
                .ok()
                .and_then(|links| links.into_iter().find(|l| l.index == index))
        {
            let name = link.name;
            failure.text = Some(format!(
                "IPv6 is disabled on {name}; enable it (sysctl -w net/ipv6/conf/{name}/disable_ipv6=0)"
            ));
        }
    }

    fn fit(&mut self, found: &LinkFact, spec: &LinkSpec) -> Result<Ensured, KernelError> {
        match spec.fit(found) {
            Fit::Adopt(repairs) if repairs.is_empty() => Ok(Ensured::Adopted),
            Fit::Adopt(repairs) => {
                repairs
                    .iter()
                    .try_for_each(|repair| self.repair(found, spec, *repair))?;
                Ok(Ensured::Repaired(repairs))
            }
            Fit::Rebuild(reason) => {
                self.delete(found.index)?;
                self.create(spec)?;
                Ok(Ensured::Rebuilt(reason))
            }
        }
    }
}

impl Kernel for Netlink {
    fn host_state(&mut self, query: &Query) -> Result<HostState, KernelError> {
        let links = self.links()?;
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addrs = self
            .socket
            .dump(&request, |answer| match Object::read(answer)? {
                Object::Addr(addr) => Some(addr),
                Object::Neigh(_) | Object::Route(_) => None,
            })?;
        let reach = query.can_reach.map_or(Ok(None), |ip| self.reach(ip))?;
        Ok(HostState {
            links,
            reach,
            addrs,
            vxlan_port: vxlan_port(),
            default_links: self.default_links(query.default_routes, AddressFamily::Inet)?,
            default_links_v6: self.default_links(query.default_routes_v6, AddressFamily::Inet6)?,
            routes: if query.routes {
                self.routes()?
            } else {
                Vec::new()
            },
        })
    }

    fn use_underlay(&mut self, index: u32) {
        self.indexes.insert(LinkRole::Underlay, index);
    }

    fn ensure_link(&mut self, dev: LinkRole, spec: &LinkSpec) -> Result<Ensured, KernelError> {
        let named = |links: Vec<LinkFact>| links.into_iter().find(|link| link.name == spec.name);
        let ensured = match named(self.links()?) {
            Some(found) => self.fit(&found, spec),
            None => self.create(spec).map(|()| Ensured::Created),
        };
        // Also after a failure: the device may be gone, or another one.
        match named(self.links()?) {
            Some(found) => {
                self.offload.apply(&found.name, found.index);
                self.indexes.insert(dev, found.index)
            }
            None => self.indexes.remove(&dev),
        };
        if spec.local.is_ipv6() {
            prepare_ipv6(&spec.name);
        }
        ensured
    }

    fn remove_link(&mut self, dev: LinkRole) -> Result<(), KernelError> {
        self.indexes
            .remove(&dev)
            .map_or(Ok(()), |index| self.delete(index))
    }

    fn remove_former_link(&mut self, link: &LinkFact) -> Result<bool, KernelError> {
        match DeviceLock::take(&link.name) {
            Ok(_lock) => self.delete(link.index).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn dump(&mut self, owned: &Owned) -> Result<Vec<Entry>, KernelError> {
        dump(&mut self.socket, &self.indexes, owned)
    }

    async fn prefetch(
        &mut self,
        links: &[(LinkRole, LinkSpec)],
        owned: &Owned,
    ) -> Option<Vec<Entry>> {
        for (dev, spec) in links {
            self.recognise(*dev, &spec.name).ok()??;
        }
        self.listen().ok()?;
        let (indexes, owned) = (self.indexes.clone(), owned.clone());
        let (sender, found) = oneshot::channel();
        let look = move || dump(&mut RouteSocket::open()?, &indexes, &owned);
        // Where no thread is to be had, the loop will look by itself.
        thread::Builder::new()
            .spawn(move || sender.send(look()))
            .ok()?;
        found.await.ok()?.ok()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<Vec<Failure>, KernelError> {
        let (blocked, mut failures): (Vec<_>, Vec<_>) =
            self.write(ops)?.into_iter().partition(is_blocked);
        if !blocked.is_empty() {
            let blocked: Vec<Op> = blocked.iter().map(|failure| failure.op).collect();
            self.socket
                .send(blocked.iter().filter_map(|op| encode::eviction(op.entry())))?;
            failures.append(&mut self.write(&blocked)?);
        }
        failures.iter_mut().for_each(|failure| self.advise(failure));
        Ok(failures)
    }

    fn listen(&mut self) -> Result<bool, KernelError> {
        let is_open = self.monitor.is_some();
        if !is_open {
            self.monitor = Some(Monitor::open()?);
        }
        Ok(is_open)
    }

    async fn notices(&mut self, owned: &Owned) -> Vec<Notification> {
        let indexes = &self.indexes;
        match &mut self.monitor {
            Some(monitor) => monitor.next(owned, |index| dev_of(indexes, index)).await,
            None => std::future::pending().await,
        }
    }
}

fn dump(
    socket: &mut RouteSocket,
    indexes: &BTreeMap<LinkRole, u32>,
    owned: &Owned,
) -> Result<Vec<Entry>, KernelError> {
    let mut entries = Vec::new();
    for question in dump_requests(indexes, owned) {
        entries.append(&mut socket.dump(&question, |answer| {
            let found = Object::read(answer).filter(|found| is_answer(&question, found))?;
            owned.entry(&found, |i| dev_of(indexes, i))
        })?);
    }
    Ok(entries)
}

fn route_parts(message: &Message<'_>) -> Option<RouteParts> {
    match Object::read(message)? {
        Object::Route(route) => Some(route),
        Object::Addr(_) | Object::Neigh(_) => None,
    }
}

/// The module's parameter; where it cannot be read, what Linux has always had.
fn vxlan_port() -> u16 {
    let parameter = std::fs::read_to_string("/sys/module/vxlan/parameters/udp_port");
    parameter
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(8472)
}

fn dev_of(indexes: &BTreeMap<LinkRole, u32>, index: u32) -> Option<LinkRole> {
    indexes
        .iter()
        .find(|(_, i)| **i == index)
        .map(|(dev, _)| *dev)
}

/// Refusals that mean the desired state is fulfilled.
fn already_so(failure: &Failure) -> bool {
    match failure.op {
        // An address cannot be replaced, only be there already.
        Op::Set(Entry::Addr { .. }) => failure.errno == Errno::EXIST,
        Op::Set(_) => false,
        // NOENT: no such neighbor or FDB entry. SRCH: no such route. ADDRNOTAVAIL: no such address.
        // NODEV: the device is gone, and everything on it.
        Op::Delete(_) => {
            matches!(
                failure.errno,
                Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NODEV
            )
        }
    }
}

/// An IPv6 route is refused while its gateway, which lies inside its destination, is routed elsewhere: replacing does not
/// take out what leads there.
fn is_blocked(failure: &Failure) -> bool {
    let is_route = matches!(failure.op, Op::Set(Entry::Route { dst, .. }) if dst.is_ipv6());
    is_route && failure.errno == Errno::INVAL
}

/// A new device, up, in one message: if any part of it is refused, no device remains.
fn creation(spec: &LinkSpec) -> LinkMessage {
    let builder = LinkVxlan::new(&spec.name, spec.vni)
        .dev(spec.parent)
        .port(spec.port)
        .learning(spec.learning)
        .address(spec.mac.0.to_vec())
        .mtu(spec.mtu)
        .txqueuelen(0)
        .up();
    let builder = match spec.local {
        IpAddr::V4(ip) => builder.local(ip),
        IpAddr::V6(ip) => builder
            .local6(ip)
            .udp_zero_csum6_tx(false)
            .udp_zero_csum6_rx(false),
    };
    if spec.gbp { builder.gbp() } else { builder }.build()
}

/// The device carries IPv6, also where new devices of this host do not. And no router is behind the overlay: advertisements
/// there want this host's traffic. Where `/proc/sys` is read-only, the kernel refuses the address, with advice; peers'
/// broadcasts do not reach this device anyway.
fn prepare_ipv6(device: &str) {
    for setting in ["disable_ipv6", "accept_ra"] {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/{setting}");
        let is_set = std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "0");
        if !is_set && let Err(error) = std::fs::write(&path, "0") {
            debug!(%path, err = %error, "cannot write {path}: {error}");
        }
    }
}
