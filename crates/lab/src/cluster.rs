//! Builds a lab as a whole, at once or piece by piece.

use std::net::Ipv4Addr;
use std::process::ExitStatus;
use std::time::Duration;

use super::bridge::Bridge;
use super::etcd::member_address;
use super::netns::{NetnsHolder, boot, introduce};
use super::options::MAX_HOSTS;
use super::process::send;
use super::wait::for_all;
use super::{
    Etcd, Flanneld, LabError, LabOptions, Matrix, Node, Pod, Signal, Stage, tools, wait_until,
};

/// How long `flanneld` may take to be ready in [`Lab::start`].
const READY: Duration = Duration::from_secs(60);

/// Several hosts on one machine. Dropping it ends every process in it and leaves nothing behind.
#[derive(Debug)]
pub struct Lab {
    options: LabOptions,
    hosts: Vec<Host>,
    etcd: Option<Etcd>,
    /// Must be the last field: everything above lives in its namespaces.
    bridge: Bridge,
}

/// A host of a lab and what runs on it.
#[derive(Debug)]
pub struct Host {
    node: Node,
    flanneld: Option<Flanneld>,
    pod: Option<Pod>,
    _holder: NetnsHolder,
}

impl Host {
    fn new(node: Node, holder: NetnsHolder) -> Self {
        Self {
            node,
            flanneld: None,
            pod: None,
            _holder: holder,
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn pod(&self) -> Option<&Pod> {
        self.pod.as_ref()
    }
}

impl Lab {
    /// Creates only the switch; add the rest piece by piece.
    pub fn bare(options: LabOptions) -> Result<Self, LabError> {
        options.check()?;
        tools::check()?;
        Ok(Self {
            options,
            hosts: Vec::new(),
            etcd: None,
            bridge: Bridge::make()?,
        })
    }

    /// Creates everything: hosts, etcd with the network configuration, a ready `flanneld` and a pod on each host.
    pub fn start(options: LabOptions) -> Result<Self, LabError> {
        let mut lab = Self::bare(options)?;
        // etcd starts while the hosts are created.
        lab.start_etcd()?;
        lab.add_hosts(lab.options.hosts)?;
        lab.configure()?;
        lab.start_all()?;
        lab.wait_all_ready(READY)?;
        lab.wire_all()?;
        Ok(lab)
    }

    /// Starts etcd according to the options, without waiting for it.
    pub fn start_etcd(&mut self) -> Result<(), LabError> {
        let members: Vec<(String, Ipv4Addr)> = (1..=self.options.etcd_members)
            .map(|i| (format!("e{i}"), member_address(i)))
            .collect();
        self.etcd = Some(Etcd::start(
            boot(self.bridge.node(), &members)?,
            self.options.tls,
            &self.options.etcd_args,
        )?);
        Ok(())
    }

    /// Waits for etcd and writes the network configuration.
    pub fn configure(&self) -> Result<(), LabError> {
        let etcd = self.etcd()?;
        etcd.wait_healthy()?;
        etcd.nodes()
            .for_each(|node| self.options.report.send(node.name(), Stage::EtcdUp));
        etcd.put(
            &format!("{}/config", self.options.prefix),
            &self.options.network,
        )
    }

    /// Adds hosts after the last one, all at the same time. If etcd was started, they get its certificates.
    pub fn add_hosts(&mut self, count: u8) -> Result<(), LabError> {
        let first = self.hosts.len() + 1;
        let names: Vec<(String, Ipv4Addr)> = (1..=MAX_HOSTS)
            .skip(first - 1)
            .take(count.into())
            .map(|i| (format!("h{i}"), Ipv4Addr::new(10, 64, 0, i)))
            .collect();
        if names.len() < count.into() {
            return Err(LabError::BadOption(format!(
                "a lab has at most {MAX_HOSTS} hosts"
            )));
        }
        for (node, holder) in boot(self.bridge.node(), &names)? {
            self.etcd
                .iter()
                .try_for_each(|etcd| etcd.install_client(&node))?;
            self.options
                .report
                .send(node.name(), Stage::Booted(node.address()));
            self.hosts.push(Host::new(node, holder));
        }
        introduce(&self.nodes())
    }

    /// Powers off host `index`: everything on it ends at once. It remains in the list.
    pub fn power_off(&mut self, index: usize) -> Result<(), LabError> {
        // The kernel removes a dead network namespace with a delay, so the cable must be removed first.
        self.bridge().sh(&format!("ip link del v-h{index}"))?;
        let host = self.host_mut(index);
        let failed = |why: &str| LabError::failed(&host.node.name, "power off", why);
        send(host.node.pid, Signal::KILL).map_err(|error| failed(&error.to_string()))?;
        host.flanneld = None;
        host.pod = None;
        let dead = wait_until(READY, || !host.node.alive());
        if dead {
            Ok(())
        } else {
            Err(failed("its first process does not end"))
        }
    }

    /// Boots host `index` again after [`Lab::power_off`], with the same name and address and an empty `/run`.
    pub fn power_on(&mut self, index: usize) -> Result<(), LabError> {
        let old = self.host(index);
        for (node, holder) in boot(self.bridge.node(), &[(old.name.clone(), old.address)])? {
            self.etcd
                .iter()
                .try_for_each(|etcd| etcd.install_client(&node))?;
            *self.host_mut(index) = Host::new(node, holder);
        }
        introduce(&self.nodes())
    }

    /// Returns host `index`, counted from 1. Panics if there is none.
    pub fn host(&self, index: usize) -> &Node {
        &self.hosts[index - 1].node
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the switch. The ports of its bridge are `v-h1`, `v-e1`, …
    pub fn bridge(&self) -> &Node {
        self.bridge.node()
    }

    pub fn etcd(&self) -> Result<&Etcd, LabError> {
        self.etcd.as_ref().ok_or_else(no_etcd)
    }

    pub fn etcd_mut(&mut self) -> Result<&mut Etcd, LabError> {
        self.etcd.as_mut().ok_or_else(no_etcd)
    }

    /// Returns the flags that every `flanneld` of this lab gets.
    pub fn flanneld_args(&self) -> Result<Vec<String>, LabError> {
        let mut args = self.etcd()?.flanneld_args();
        args.extend([
            format!("-etcd-prefix={}", self.options.prefix),
            "-iface=eth0".into(),
        ]);
        // Hosts of a lab share the machine's `/var`.
        args.push("-state-file=/run/flannel/state.json".into());
        args.extend(self.options.flanneld_args.iter().cloned());
        Ok(args)
    }

    /// Starts `flanneld` on host `index` with additional flags, without waiting for it. A running one is killed.
    pub fn start_flanneld(
        &mut self,
        index: usize,
        extra: &[&str],
    ) -> Result<&mut Flanneld, LabError> {
        self.start_flanneld_under(index, &[], extra)
    }

    /// Does the same as [`Lab::start_flanneld`], through a command that ends in running it, such as `prlimit --nofile=20`.
    pub fn start_flanneld_under(
        &mut self,
        index: usize,
        way: &[&str],
        extra: &[&str],
    ) -> Result<&mut Flanneld, LabError> {
        let mut args = self.flanneld_args()?;
        args.extend(extra.iter().map(ToString::to_string));
        let mut command = self.host(index).command(way);
        command.arg(&self.options.flanneld).args(args);
        let host = self.host_mut(index);
        host.flanneld = None;
        Ok(host.flanneld.insert(Flanneld::start(&host.node, command)?))
    }

    pub fn flanneld(&mut self, index: usize) -> Result<&mut Flanneld, LabError> {
        let host = self.host_mut(index);
        host.flanneld
            .as_mut()
            .ok_or_else(|| no_flanneld(&host.node))
    }

    /// Ends the `flanneld` of host `index` with a signal and waits for it: `TERM` for a stop, `KILL` for a crash.
    pub fn end_flanneld(&mut self, index: usize, signal: Signal) -> Result<ExitStatus, LabError> {
        let host = self.host_mut(index);
        let flanneld = host
            .flanneld
            .take()
            .ok_or_else(|| no_flanneld(&host.node))?;
        flanneld.end(signal, READY)
    }

    /// Starts `flanneld` on every host, without waiting.
    pub fn start_all(&mut self) -> Result<(), LabError> {
        for index in 1..=self.hosts.len() {
            self.start_flanneld(index, &[])?;
            self.options
                .report
                .send(self.host(index).name(), Stage::FlanneldStarted);
        }
        Ok(())
    }

    /// Waits until every started `flanneld` is ready.
    pub fn wait_all_ready(&mut self, timeout: Duration) -> Result<(), LabError> {
        for host in &mut self.hosts {
            let Some(flanneld) = &mut host.flanneld else {
                continue;
            };
            flanneld.wait_ready(timeout)?;
            let subnet = host
                .node
                .sh("sed -n 's/^FLANNEL_.*SUBNET=//p' /run/flannel/subnet.env | paste -sd' '")?;
            self.options
                .report
                .send(host.node.name(), Stage::FlanneldReady(subnet.trim().into()));
        }
        Ok(())
    }

    /// Creates the pod of host `index` from its `subnet.env`.
    pub fn wire_pod(&mut self, index: usize) -> Result<Pod, LabError> {
        let pod = Pod::wire(self.host(index))?;
        self.host_mut(index).pod = Some(pod.clone());
        Ok(pod)
    }

    /// Creates a pod on every host.
    pub fn wire_all(&mut self) -> Result<(), LabError> {
        let nodes: Vec<Node> = self.hosts.iter().map(|host| host.node.clone()).collect();
        let pods = for_all(&nodes, Pod::wire)?;
        for (host, pod) in self.hosts.iter_mut().zip(pods) {
            self.options
                .report
                .send(host.node.name(), Stage::PodUp(pod.address));
            host.pod = Some(pod);
        }
        Ok(())
    }

    /// Pings from every pod to every other until all have answered, or `timeout` has passed.
    pub fn ping_all(&self, timeout: Duration) -> Result<Matrix, LabError> {
        let pods: Vec<&Pod> = self.hosts.iter().filter_map(Host::pod).collect();
        Matrix::measure(&pods, timeout)
    }

    /// Keeps the lab after the end of this process. [`super::kept_labs`] finds it.
    pub fn keep(mut self) -> Result<(), LabError> {
        let nodes: Vec<Node> = self.nodes().into_iter().cloned().collect();
        // A lab without etcd has no daemons.
        let flags = self.flanneld_args().unwrap_or_default();
        let program = self.options.flanneld.display().to_string();
        let flanneld = std::iter::once(program)
            .chain(flags)
            .filter(|_| self.etcd.is_some())
            .collect();
        super::state::save(&self.options.name, self.bridge.node(), &nodes, flanneld)?;
        self.bridge.unleash()?;
        std::mem::forget(self);
        Ok(())
    }

    /// Returns all running hosts and etcd members.
    fn nodes(&self) -> Vec<&Node> {
        let members = self.etcd.iter().flat_map(Etcd::nodes);
        self.hosts
            .iter()
            .map(Host::node)
            .chain(members)
            .filter(|node| node.alive())
            .collect()
    }

    fn host_mut(&mut self, index: usize) -> &mut Host {
        &mut self.hosts[index - 1]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Ends all at once, so that each part only has to reap its processes.
        self.bridge.cut();
    }
}

fn no_etcd() -> LabError {
    LabError::failed("the lab", "use etcd", "it was not started")
}

fn no_flanneld(node: &Node) -> LabError {
    LabError::failed(node.name(), "use flanneld", "it was not started there")
}
