//! Docker Engine on a systemd host: Debian's packages, an image made of busybox. Nothing is pulled from anywhere.

use super::systemd_host::SystemdHost;

/// What a host with docker and flanneld enables.
pub const UNITS: [&str; 4] = [
    "flanneld.service",
    "docker.socket",
    "containerd.service",
    "docker.service",
];

/// The image, from the machine's own static busybox.
const IMAGE: &str = "mkdir -p /run/image/bin /run/image/www && cd /run/image && cp /bin/busybox bin \
    && for name in sh head ip ping wget httpd; do ln -sf busybox bin/$name; done \
    && tar -c . | docker import - busybox:lab";

/// A container on a host that serves `/name` by HTTP.
pub struct Container<'h, 'lab> {
    pub host: &'h SystemdHost<'lab>,
    pub name: String,
    pub address: String,
}

impl<'h, 'lab> Container<'h, 'lab> {
    /// Runs it on a host whose docker is up. The host has no other of this name.
    pub fn run(host: &'h SystemdHost<'lab>, name: &str) -> Self {
        host.must(IMAGE);
        let serve = format!(
            "echo {name} >/www/name; head -c 3000000 /dev/zero >/www/large; exec httpd -f -v -h /www"
        );
        host.must(&format!(
            "docker run -d --name {name} busybox:lab sh -c '{serve}'"
        ));
        let address = host.must(&format!(
            "docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {name}"
        ));
        Self {
            host,
            name: name.to_owned(),
            address,
        }
    }

    /// What a command in the container prints; its exit status does not matter.
    pub fn say(&self, command: &str) -> String {
        self.host
            .say(&format!("docker exec {} {command}", self.name))
    }

    /// Who has asked it for something, as its server saw it.
    pub fn log(&self) -> String {
        self.host.must(&format!("docker logs {} 2>&1", self.name))
    }

    /// Waits until `other` answers to a ping and serves its name and three megabytes.
    pub fn wait_reaches(&self, other: &Self) {
        let Self { name, address, .. } = other;
        // Not wget's own -T: a static busybox crashes on it.
        let exec = format!("timeout 20 docker exec {}", self.name);
        self.host
            .wait(&format!("{exec} ping -c 1 -W 1 {address}"), |told| {
                told.contains(" 0% packet loss")
            });
        self.host.wait(
            &format!("{exec} wget -q -O - http://{address}/name"),
            |told| told == name,
        );
        let count = format!("{exec} wget -q -O - http://{address}/large | wc -c");
        self.host.wait(&count, |told| told == "3000000");
    }
}
