//! Hosts with programs and certificates and nothing else.

use crate::support::tool::rflannel;
use std::fs;

use lab::{Lab, LabOptions};

use crate::support::installed::{certificates, file};
use crate::support::systemd_host::{File, SystemdHost};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");
/// The settings of a node.
pub const CONFIG: &str = "--config /root/node.toml";

/// Notes its arguments, and ends where a file that it is told of is missing. A kubelet writes its kubeconfig itself.
const STAND_IN: &str = r#"#!/bin/sh
case $1 in --version) echo "Kubernetes v1.20.2"; exit ;; esac
for arg; do
    file=${arg#*=}
    case $arg in
    --kubeconfig=*kubelet.kubeconfig) ;;
    --config=* | --kubeconfig=* | --bootstrap-kubeconfig=*) [ -r "$file" ] || { echo "$file: missing"; exit 1; } ;;
    --cert-dir=* | --root-dir=*) [ -d "$file" ] || { echo "$file: missing"; exit 1; } ;;
    esac
done
printf '%s\n' "$@" >/run/${0##*/}.argv
exec sleep infinity
"#;

/// Instead of systemd-sysctl, whose other files are for the whole machine.
const SYSCTL: &str = "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\nConditionPathExists=/etc/sysctl.d/99-flannel.conf\n\
    [Service]\nType=oneshot\nExecStart=/lib/systemd/systemd-sysctl /etc/sysctl.d/99-flannel.conf\n\
    [Install]\nWantedBy=sysinit.target\n";

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: default\n\
    clusters: [{name: c, cluster: {server: 'https://10.64.0.1:6443', certificate-authority: ssl/ca.pem}}]\n\
    users: [{name: u, user: {token: 0123456789abcdef0123456789abcdef}}]\n\
    contexts: [{name: default, context: {cluster: c, user: u}}]\n";

/// A lab with etcd and no network configuration in it yet.
pub struct Nodes {
    pub lab: Lab,
}

impl Nodes {
    pub fn new() -> Self {
        let mut lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
        lab.start_etcd().unwrap();
        lab.add_hosts(1).unwrap();
        lab.etcd().unwrap().wait_healthy().unwrap();
        Self { lab }
    }

    /// Three hosts, up.
    pub fn boot(&self) -> Vec<SystemdHost<'_>> {
        let boot = |n: u8| {
            let address = format!("10.64.0.10{n}");
            let units = ["docker.socket", "containerd.service", "lab-sysctl.service"];
            SystemdHost::boot(
                &self.lab,
                &format!("n{n}"),
                &address,
                &self.files(&address),
                &units,
            )
            .unwrap()
        };
        let hosts: Vec<_> = (1..=3).map(boot).collect();
        for host in &hosts {
            host.wait("systemctl is-system-running", |state| state == "running");
        }
        hosts
    }

    fn files(&self, address: &str) -> Vec<File> {
        let etcd = self.lab.etcd().unwrap().endpoints();
        let config = format!(
            "node-ip = '{address}'\netcd-endpoints = '{etcd}'\nkubernetes-version = '1.20'\nruntime = 'docker'\n\
             docker-version = '20.10'\niface = 'eth0'\n"
        );
        let mut files: Vec<File> = vec![
            file("/root/node.toml", &config),
            file("/etc/systemd/system/lab-sysctl.service", SYSCTL),
        ];
        for program in ["kubelet", "kube-proxy"] {
            files.push((format!("/usr/local/bin/{program}"), STAND_IN.into(), 0o755));
            let name = if program == "kubelet" {
                "bootstrap"
            } else {
                program
            };
            files.push((
                format!("/etc/kubernetes/{name}.kubeconfig"),
                KUBECONFIG.into(),
                0o600,
            ));
        }
        for program in [FLANNELD, rflannel()] {
            let name = program.rsplit('/').next().unwrap();
            files.push((
                format!("/usr/local/bin/{name}"),
                fs::read(program).unwrap(),
                0o755,
            ));
        }
        files.extend(certificates(&self.lab));
        files
    }
}

/// What a stand-in was started with, one argument a line.
pub fn argv(host: &SystemdHost<'_>, program: &str) -> String {
    host.must(&format!("cat /run/{program}.argv"))
}

pub fn pid(host: &SystemdHost<'_>, unit: &str) -> String {
    host.property(unit, "MainPID")
}
