//! The hosts that the documents speak of, run by systemd: those of the walk-through, with a real etcd over mutual TLS.
//!
//! ```text
//! a 10.64.3.7, b 10.64.3.8, c 10.66.3.86: a member of etcd on each; a router between 10.64/16 and 10.66/16
//! ```

use crate::support::tool::rflannel;
use std::fs;
use std::net::IpAddr;
use std::process::Output;

use lab::{Authority, Lab, LabOptions};

use crate::markdown::{Step, Terms};
use crate::support::installed::{SSL, file};
use crate::support::shipped::shipped;
use crate::support::systemd_host::{File, SystemdHost};

const FLANNELD: &str = env!("CARGO_BIN_EXE_flanneld");

/// Name and address of each host.
const HOSTS: [(&str, &str); 3] = [("a", "10.64.3.7"), ("b", "10.64.3.8"), ("c", "10.66.3.86")];
/// Root needs none, and the packages that the tests install have none.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";
/// As in the documents.
const CONFIG: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
/// Where a host keeps what a command exported and where it went, for the next one.
const TERMINAL: &str = "/run/docs-terminal";

/// What a document may ask for, in the comment that begins with `scene:`.
const WORDS: [&str; 9] = [
    "alone", "etcd", "config", "checkout", "programs", "running", "go", "docker", "renewed",
];

/// A lab in which both networks of the hosts are.
pub fn lab() -> Lab {
    let lab = Lab::bare(LabOptions::new(FLANNELD)).unwrap();
    let router = "ip addr add 10.66.255.254/16 dev br0; echo 1 >/proc/sys/net/ipv4/ip_forward";
    lab.bridge().sh(router).unwrap();
    lab
}

/// What a document's commands run in.
pub struct Scene<'lab> {
    hosts: Vec<(&'static str, SystemdHost<'lab>)>,
}

impl<'lab> Scene<'lab> {
    /// Sets up what these words ask for.
    pub fn set(lab: &'lab Lab, words: &[&str]) -> Self {
        let unknown = words.iter().find(|word| !WORDS.contains(word));
        assert_eq!(unknown, None, "a scene is made of {WORDS:?}");
        let has = |word: &str| words.contains(&word);
        let count = if has("alone") { 1 } else { HOSTS.len() };
        let pki = Pki::new();
        let hosts = HOSTS.iter().take(count).map(|(name, address)| {
            let files = files(name, address, words, &pki);
            (
                *name,
                SystemdHost::boot(lab, name, address, &files, &units(words)).unwrap(),
            )
        });
        let scene = Self {
            hosts: hosts.collect(),
        };
        scene.wait_until_up(words);
        scene
    }

    fn wait_until_up(&self, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let units = [
            ("etcd", has("etcd")),
            ("docker", has("docker") && has("running")),
        ];
        for (_, host) in &self.hosts {
            host.wait("systemctl is-system-running", |state| {
                ["running", "degraded"].contains(&state)
            });
            host.wait("systemctl is-active etcd", |state| {
                !has("etcd") || state == "active"
            });
        }
        if has("config") || has("running") || has("go") {
            let (_, first) = &self.hosts[0];
            first.must(&format!(
                "{} put /kubernetes/network/config '{CONFIG}'",
                etcdctl()
            ));
        }
        if has("running") || has("go") {
            // What systemd-sysctl does elsewhere; it is not run here, for most settings are the whole machine's.
            self.hosts
                .iter()
                .for_each(|(_, host)| drop(host.must("sysctl -w net.ipv4.ip_forward=1")));
            let started = self
                .hosts
                .iter()
                .map(|(_, host)| host.must("systemctl start flanneld"));
            assert_eq!(started.count(), self.hosts.len());
        }
        for (unit, _) in units.iter().filter(|(_, is_there)| *is_there) {
            self.hosts.iter().for_each(|(_, host)| {
                host.wait(&format!("systemctl is-active {unit}"), |state| {
                    state == "active"
                });
            });
        }
    }

    /// Runs a step on each of its hosts: what each did.
    pub fn run(&self, step: &Step, terms: &Terms) -> Vec<Output> {
        let hosts = self.hosts.iter().enumerate();
        let chosen = hosts.filter(|(at, (name, _))| match terms.on.as_slice() {
            [] => *at == 0,
            names => names.iter().any(|one| one == name || one == "all"),
        });
        let done: Vec<Output> = chosen
            .map(|(_, (_, host))| {
                host.run(&at_terminal(&format!("{}{}", terms.before, step.script)))
            })
            .collect();
        assert!(!done.is_empty(), "no host is called {:?}", terms.on);
        done
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // All at once: the kernel takes its time for each.
        self.hosts.iter().for_each(|(_, host)| host.pull_plug());
    }
}

/// A shell as on a terminal: root's, with what the commands before have exported; both streams as one.
fn at_terminal(script: &str) -> String {
    let script = format!(
        "exec 2>&1 </dev/null; cd /root; [ ! -e {TERMINAL} ] || . {TERMINAL}\n\
         trap '{{ export -p; echo \"cd $PWD\"; }} >{TERMINAL}' EXIT\nset -e\n{script}"
    );
    let quoted = shlex::try_quote(&script).unwrap();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    format!("exec env -i HOME=/root LANG=C.UTF-8 PATH={path} sh -c {quoted}")
}

/// etcd's client, as the documents call it.
fn etcdctl() -> String {
    format!(
        "ETCDCTL_API=3 etcdctl --endpoints=https://10.64.3.7:2379 --cacert={SSL}/ca.pem \
         --cert={SSL}/kubernetes.pem --key={SSL}/kubernetes-key.pem"
    )
}

fn units(words: &[&str]) -> Vec<&'static str> {
    let docker: &[&str] = &["docker.socket", "containerd.service", "docker.service"];
    let sets: [(&str, &[&str]); 2] = [("etcd", &["etcd.service"]), ("docker", docker)];
    let wanted = sets.iter().filter(|(word, _)| words.contains(word));
    wanted
        .flat_map(|(_, units)| units.iter().copied())
        .collect()
}

/// Certificates of the cluster.
struct Pki {
    /// Path, content, mode.
    files: Vec<File>,
    /// What replaces them one day: another client certificate of the same authority, and the certificate of the next one.
    renewed: Vec<File>,
}

impl Pki {
    fn new() -> Self {
        let authority = Authority::new("kubernetes").unwrap();
        let addresses = HOSTS
            .iter()
            .map(|(_, address)| address)
            .chain([&"127.0.0.1"]);
        let addresses: Vec<IpAddr> = addresses.map(|text| text.parse().unwrap()).collect();
        let server = authority.issue("etcd", &addresses).unwrap();
        let client = authority.issue("kubernetes", &[]).unwrap();
        let open = |name: &str, text: &str| file(&format!("/etc/etcd-pki/{name}"), text);
        let closed = |name: &str, text: String| (format!("{SSL}/{name}"), text.into_bytes(), 0o600);
        let files = vec![
            open("ca.pem", authority.pem()),
            open("server.pem", &server.cert),
            open("server-key.pem", &server.key),
            closed("ca.pem", authority.pem().to_owned()),
            closed("kubernetes.pem", client.cert),
            closed("kubernetes-key.pem", client.key),
        ];
        let (next, client) = (
            Authority::new("next").unwrap(),
            authority.issue("kubernetes", &[]).unwrap(),
        );
        let renewed = [
            ("ca", next.pem()),
            ("kubernetes", &client.cert),
            ("kubernetes-key", &client.key),
        ];
        let renewed = renewed
            .map(|(name, text)| file(&format!("/root/new/{name}.pem"), text))
            .into();
        Self { files, renewed }
    }
}

fn files(name: &str, address: &str, words: &[&str], pki: &Pki) -> Vec<File> {
    let has = |word: &str| words.contains(&word);
    let mut files = vec![(
        "/usr/local/bin/sudo".to_owned(),
        SUDO.as_bytes().to_vec(),
        0o755,
    )];
    if has("etcd") {
        files.extend(pki.files.iter().cloned());
        files.push(file("/etc/default/etcd", &member(name, address)));
    }
    if has("renewed") {
        files.extend(pki.renewed.iter().cloned());
    }
    if has("checkout") {
        files.extend(checkout());
        files.push(file("/root/edited/flanneld", &settings()));
    }
    if has("programs") || has("running") {
        files.extend(programs("/usr/local/bin"));
    }
    if has("running") {
        files.extend(
            shipped()
                .into_iter()
                .map(|file| (file.target, file.text.into_bytes(), 0o644)),
        );
        files.push(file("/etc/default/flanneld", &settings()));
    }
    if has("go") {
        files.extend(go(name));
    }
    files
}

fn programs(dir: &str) -> Vec<File> {
    let program = |name: &str, path| (format!("{dir}/{name}"), fs::read(path).unwrap(), 0o755);
    vec![
        program("flanneld", FLANNELD),
        program("rflannel", rflannel()),
    ]
}

/// The repository as it is after a build, as far as the commands look at it.
fn checkout() -> Vec<File> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
    let mut files = programs("/root/rflannel/target/release");
    let dirs =
        ["", "/docker.service.d"].map(|dir| (dir, fs::read_dir(format!("{root}{dir}")).unwrap()));
    for (dir, entries) in dirs {
        let paths = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file());
        files.extend(paths.map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (
                format!("/root/rflannel/systemd{dir}/{name}"),
                fs::read(path).unwrap(),
                0o644,
            )
        }));
    }
    files
}

/// Settings of a member of etcd, for Debian's unit.
fn member(name: &str, address: &str) -> String {
    let pki = "/etc/etcd-pki";
    let all: Vec<String> = HOSTS
        .iter()
        .map(|(name, address)| format!("{name}=https://{address}:2380"))
        .collect();
    let tls = |kind: &str| {
        format!(
            "ETCD_{kind}CERT_FILE={pki}/server.pem\nETCD_{kind}KEY_FILE={pki}/server-key.pem\n\
             ETCD_{kind}TRUSTED_CA_FILE={pki}/ca.pem\nETCD_{kind}CLIENT_CERT_AUTH=true\n"
        )
    };
    format!(
        "ETCD_NAME={name}\nETCD_DATA_DIR=/var/lib/etcd/docs\n\
         ETCD_LISTEN_CLIENT_URLS=https://{address}:2379,https://127.0.0.1:2379\n\
         ETCD_ADVERTISE_CLIENT_URLS=https://{address}:2379\n\
         ETCD_LISTEN_PEER_URLS=https://{address}:2380\nETCD_INITIAL_ADVERTISE_PEER_URLS=https://{address}:2380\n\
         ETCD_INITIAL_CLUSTER={}\nETCD_HEARTBEAT_INTERVAL=50\nETCD_ELECTION_TIMEOUT=500\n{}{}",
        all.join(","),
        tls(""),
        tls("PEER_"),
    )
}

/// Settings of the daemon, as the documents have them.
fn settings() -> String {
    let endpoints: Vec<String> = HOSTS
        .iter()
        .map(|(_, address)| format!("https://{address}:2379"))
        .collect();
    format!(
        "FLANNELD_ETCD_ENDPOINTS={}\nFLANNELD_ETCD_PREFIX=/kubernetes/network\nFLANNELD_ETCD_CAFILE={SSL}/ca.pem\n\
         FLANNELD_ETCD_CERTFILE={SSL}/kubernetes.pem\nFLANNELD_ETCD_KEYFILE={SSL}/kubernetes-key.pem\n\
         FLANNEL_OPTIONS=-iface=eth0\n",
        endpoints.join(",")
    )
}

/// Go's daemon: a stand-in that leaves on the host and in etcd what that one leaves, and the unit of the walk-through.
fn go(name: &str) -> Vec<File> {
    let peers: String = HOSTS
        .iter()
        .map(|(name, address)| format!("{name} {address}\n"))
        .collect();
    let script = include_str!("go-flanneld.sh")
        .replace("@PEERS@", peers.trim())
        .replace("@ETCDCTL@", &etcdctl());
    let unit = include_str!("go-flanneld.service");
    vec![
        (
            "/root/local/bin/flanneld".to_owned(),
            script.replace("@NAME@", name).into_bytes(),
            0o755,
        ),
        file("/etc/systemd/system/flanneld.service", unit),
    ]
}
