//! A host as an administrator sets it up by hand: the shipped files where they say they belong, settings, certificates.

use std::fs;

use lab::Lab;

use super::shipped::shipped;
use super::systemd_host::File;

/// Where it has its certificates.
pub const SSL: &str = "/etc/kubernetes/ssl";

/// All files of a host that joins the lab's cluster with this `flanneld` and these flags. The lab has etcd and one host.
pub fn installed(lab: &Lab, flanneld: &str, options: &str) -> Vec<File> {
    let mut files: Vec<File> = shipped()
        .into_iter()
        .map(|file| (file.target, file.text.into_bytes(), 0o644))
        .collect();
    files.retain(|(path, ..)| path != "/etc/default/flanneld");
    files.push(file("/etc/default/flanneld", &settings(lab, options)));
    files.push((
        "/usr/local/bin/flanneld".into(),
        fs::read(flanneld).unwrap(),
        0o755,
    ));
    files.extend(certificates(lab));
    files
}

/// A file that all may read.
pub fn file(path: &str, text: &str) -> File {
    (path.into(), text.into(), 0o644)
}

/// Those of etcd's client.
pub fn certificates(lab: &Lab) -> impl Iterator<Item = File> {
    let names = [
        ("ca", "ca"),
        ("client", "kubernetes"),
        ("client-key", "kubernetes-key"),
    ];
    let read = |from| {
        lab.host(1)
            .read(&format!("/run/pki/{from}.pem"))
            .unwrap()
            .into_bytes()
    };
    names
        .into_iter()
        .map(move |(from, to)| (format!("{SSL}/{to}.pem"), read(from), 0o600))
}

/// Text of /etc/default/flanneld.
pub fn settings(lab: &Lab, options: &str) -> String {
    let etcd = lab.etcd().unwrap().endpoints();
    format!(
        "FLANNELD_ETCD_ENDPOINTS={etcd}\nFLANNELD_ETCD_PREFIX=/kubernetes/network\nFLANNELD_ETCD_CAFILE={SSL}/ca.pem\n\
         FLANNELD_ETCD_CERTFILE={SSL}/kubernetes.pem\nFLANNELD_ETCD_KEYFILE={SSL}/kubernetes-key.pem\n\
         FLANNEL_OPTIONS={options}\n"
    )
}
