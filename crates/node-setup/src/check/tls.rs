//! Checks the certificates with which flanneld connects to etcd, and other files beside them. Pure.

use std::path::Path;

use super::certs::{self, Fault, Identity};
use super::facts::{Facts, FileFact};
use super::kubeconfig;
use crate::Service;
use crate::finding::Finding;
use crate::model::Model;

const ID: &str = "certs";
/// Names of an authority's private key, which does not belong on a node.
const CA_KEYS: &[&str] = &["ca-key.pem", "ca.key"];

/// Checks all files; without TLS there are none.
pub fn judge(model: &Model, facts: &Facts) -> Vec<Finding> {
    let mut findings = ca_keys(model, facts);
    findings.extend(tokens(model, facts));
    findings.extend(bootstrap_user(model, facts));
    let Some([ca, certificate, key]) = &model.etcd.tls else {
        return findings;
    };
    let (Some(ca_pem), Some(pem), Some(key_pem)) = (
        bytes(facts, ca, &mut findings),
        bytes(facts, certificate, &mut findings),
        bytes(facts, key, &mut findings),
    ) else {
        return findings;
    };
    findings.extend(mode(facts, key));
    match certs::authority(ca_pem, facts.now) {
        Err(fault) => findings.push(told(ca, &fault)),
        Ok(authority) => {
            findings.push(Finding::ok(
                ID,
                format!("{}: a CA certificate", ca.display()),
            ));
            let (identity, fault) = certs::client(pem, Some(key_pem), &authority, facts.now);
            findings.extend(pair(certificate, identity.as_ref(), fault.as_ref()));
        }
    }
    findings
}

fn pair(path: &Path, identity: Option<&Identity>, fault: Option<&Fault>) -> Vec<Finding> {
    let verdict = match (fault, identity) {
        (Some(fault), _) => told(path, fault),
        (None, Some(identity)) => Finding::ok(
            ID,
            format!(
                "{}: {}, with its key, signed by the CA",
                path.display(),
                identity.name
            ),
        ),
        (None, None) => return Vec::new(),
    };
    let server = identity.filter(|identity| {
        identity.is_server
            && identity
                .server_names
                .iter()
                .any(|name| name.starts_with("kubernetes"))
    });
    let shared = server.map(|identity| {
        Finding::warning(
            ID,
            format!("{}: {} is the API server's own certificate", path.display(), identity.name),
            "a certificate for clients of etcd only: a compromised node could pose as the API server",
            "sign one with clientAuth and without server names, and set --etcd-certfile and --etcd-keyfile",
        )
    });
    std::iter::once(verdict).chain(shared).collect()
}

fn told(path: &Path, fault: &Fault) -> Finding {
    fault.finding(ID, &path.display().to_string(), "a valid certificate")
}

fn bytes<'a>(facts: &'a Facts, path: &Path, findings: &mut Vec<Finding>) -> Option<&'a [u8]> {
    let why = match facts.at(path) {
        FileFact::File { bytes, .. } => return Some(bytes),
        FileFact::Absent => "does not exist".to_owned(),
        FileFact::Directory(_) => "is a directory".to_owned(),
        FileFact::Unreadable(why) => why.clone(),
    };
    findings.push(Finding::error(
        ID,
        format!("{}: {why}", path.display()),
        "a PEM file",
        "copy the file there, or correct the path",
    ));
    None
}

fn mode(facts: &Facts, key: &Path) -> Option<Finding> {
    let FileFact::File { mode, user, .. } = facts.at(key) else {
        return None;
    };
    let found = format!("{}: mode {mode:04o}, user {user}", key.display());
    let (expected, fix) = match (mode & 0o037, user) {
        (0, 0) => return None,
        (0, _) => (
            "owner root: the unit drops the capability to read files of other users",
            "chown root",
        ),
        _ => ("a key that only root can read", "chmod 600"),
    };
    let fix = format!("{fix} {}", key.display());
    Some(Finding::warning(ID, found, expected, fix))
}

fn ca_keys(model: &Model, facts: &Facts) -> Vec<Finding> {
    let there = CA_KEYS
        .iter()
        .map(|name| model.dirs.ssl.join(name))
        .filter(|path| *facts.at(path) != FileFact::Absent);
    there
        .map(|path| {
            Finding::error(
                ID,
                format!("{}: the CA's private key is on this node", path.display()),
                "no such key on a node; it belongs where certificates are signed",
                format!("shred -u {}", path.display()),
            )
        })
        .collect()
}

/// Checks the user of the bootstrap token. Unless the role binding names this user, the kubelet may not request a certificate.
fn bootstrap_user(model: &Model, facts: &Facts) -> Option<Finding> {
    const ID: &str = "bootstrap-user";
    let csv = model.dirs.kubernetes.join("token.csv");
    let text = facts.text(&csv).filter(|_| model.has(Service::Kubelet))?;
    let token = kubeconfig::token(&model.dirs.kubernetes.join("bootstrap.kubeconfig"), facts)?;
    let wanted = &model.kube.bootstrap_user;
    let field = |line: &str, index| {
        line.split(',')
            .nth(index)
            .map(|field| field.trim().trim_matches('"').to_owned())
    };
    let user = text
        .lines()
        .find(|line| field(line, 0).as_ref() == Some(&token))
        .and_then(|line| field(line, 1));
    let bad = |found: String, fix: &str| {
        Finding::error(
            ID,
            found,
            &format!("{wanted}, to which the role system:node-bootstrapper is bound"),
            fix,
        )
    };
    Some(match user {
        Some(user) if user == *wanted => Finding::ok(
            ID,
            format!("the token of bootstrap.kubeconfig belongs to {user}"),
        ),
        Some(user) => bad(
            format!(
                "the token of bootstrap.kubeconfig belongs to {user:?} in {}",
                csv.display()
            ),
            "set --bootstrap-user and bind the role to that user, or use the token of the expected user",
        ),
        None => bad(
            format!(
                "the token of bootstrap.kubeconfig is not in {}",
                csv.display()
            ),
            "copy the kubeconfig again: the API server's token.csv differs from this one, or the kubeconfig is for another cluster",
        ),
    })
}

/// Reports a token file, which only the API server reads.
fn tokens(model: &Model, facts: &Facts) -> Option<Finding> {
    let path = model.dirs.kubernetes.join("token.csv");
    let FileFact::File { mode, .. } = facts.at(&path) else {
        return None;
    };
    let open = if mode & 0o077 == 0 {
        ""
    } else {
        ", readable for all users"
    };
    Some(Finding::warning(
        "token-csv",
        format!(
            "{} contains every static token of the cluster{open}",
            path.display()
        ),
        "no such file: only API servers need it",
        format!("shred -u {}", path.display()),
    ))
}
