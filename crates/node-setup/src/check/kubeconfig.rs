//! Checks kubeconfigs: the server, the user, and their credentials. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::certs::{self, Identity};
use super::facts::{Facts, FileFact};
use super::os::first_line;
use crate::Service;
use crate::finding::{Finding, or_ok};
use crate::model::Model;

const ID: &str = "kubeconfigs";
const EXPECTED: &str = "a valid kubeconfig";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    current_context: String,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    cluster: Option<Entry>,
    #[serde(default)]
    user: Option<Entry>,
    #[serde(default)]
    context: Option<BTreeMap<String, serde_json::Value>>,
}

/// Fields of a cluster and of a user; other fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Entry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    token: Option<String>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
}

#[derive(Debug, Default)]
struct Access {
    server: String,
    ca: Option<Vec<u8>>,
    skips_verification: bool,
    token: Option<String>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

/// Checks the kubeconfigs of kubelet and kube-proxy.
pub fn judge(model: &Model, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if model.has(Service::Kubelet) {
        findings.extend(kubelet(model, facts));
    }
    if model.has(Service::KubeProxy) {
        let path = model.dirs.kubernetes.join("kube-proxy.kubeconfig");
        findings.extend(one(facts, &path, Role::Proxy));
    }
    findings
}

#[derive(Debug, Clone, Copy)]
enum Role<'a> {
    Bootstrap,
    Kubelet(&'a str),
    Proxy,
}

/// Checks the kubelet's kubeconfig, or else the one for the bootstrap, which a kubelet with its own kubeconfig ignores.
fn kubelet(model: &Model, facts: &Facts) -> Vec<Finding> {
    let own = model.dirs.kubernetes.join("kubelet.kubeconfig");
    let bootstrap = model.dirs.kubernetes.join("bootstrap.kubeconfig");
    let name = model.node.as_ref().map_or("", |node| node.name.as_str());
    match facts.at(&own) {
        FileFact::Absent => one(facts, &bootstrap, Role::Bootstrap),
        FileFact::Directory(_) | FileFact::File { .. } | FileFact::Unreadable(_) => {
            one(facts, &own, Role::Kubelet(name))
        }
    }
}

fn one(facts: &Facts, path: &Path, role: Role<'_>) -> Vec<Finding> {
    let (text, mode) = match facts.at(path) {
        FileFact::File { bytes, mode, .. } => (String::from_utf8_lossy(bytes), *mode),
        FileFact::Absent => {
            return vec![error(
                path,
                "does not exist",
                "get the file from the administrator of the cluster",
            )];
        }
        FileFact::Directory(_) => return vec![error(path, "is a directory", "move it away")],
        FileFact::Unreadable(why) => return vec![error(path, why, "run the check as root")],
    };
    let mut findings = match read(&text, path, facts) {
        Err((found, fix)) => vec![error(path, &found, fix)],
        Ok(access) => verdicts(&access, path, facts.now, role),
    };
    if mode & 0o077 != 0 {
        let found = format!("{}: mode {mode:04o}", path.display());
        findings.push(Finding::warning(
            ID,
            found,
            "0600: the file contains credentials",
            format!("chmod 600 {}", path.display()),
        ));
    }
    findings
}

type Wrong = (String, &'static str);

fn read(text: &str, path: &Path, facts: &Facts) -> Result<Access, Wrong> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        (
            format!("cannot be parsed: {}", first_line(&error.to_string())),
            "create it with `kubectl config`",
        )
    })?;
    if (file.api_version.as_str(), file.kind.as_str()) != ("v1", "Config") {
        return Err((
            format!("is a {} of {}", file.kind, file.api_version),
            "use a Config of v1",
        ));
    }
    let context =
        find(&file.contexts, &file.current_context).and_then(|named| named.context.as_ref());
    let context = context.ok_or_else(|| {
        (
            format!(
                "the current-context {:?} does not exist in the file",
                file.current_context
            ),
            "kubectl config use-context NAME --kubeconfig=FILE",
        )
    })?;
    let name = |key: &str| {
        context
            .get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    let missing = |kind: &str, fix| {
        let name = name(kind);
        (
            format!("the {kind} {name:?} does not exist in the file"),
            fix,
        )
    };
    let cluster = find(&file.clusters, name("cluster")).and_then(|named| named.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| missing("cluster", "kubectl config set-cluster"))?;
    let user = find(&file.users, name("user")).and_then(|named| named.user.as_ref());
    let user = user.ok_or_else(|| missing("user", "kubectl config set-credentials"))?;
    let material = |data: &Option<String>, file: &Option<PathBuf>| {
        material(data.as_deref(), file.as_deref(), path, facts)
    };
    Ok(Access {
        server: cluster.server.clone(),
        ca: material(
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
        )?,
        skips_verification: cluster.insecure_skip_tls_verify,
        token: user.token.clone(),
        certificate: material(&user.client_certificate_data, &user.client_certificate)?,
        key: material(&user.client_key_data, &user.client_key)?,
    })
}

fn find<'a>(all: &'a [Named], name: &str) -> Option<&'a Named> {
    all.iter().find(|named| named.name == name)
}

/// Returns embedded data or the content of a named file. A relative path is relative to the kubeconfig.
fn material(
    data: Option<&str>,
    file: Option<&Path>,
    beside: &Path,
    facts: &Facts,
) -> Result<Option<Vec<u8>>, Wrong> {
    if let Some(data) = data {
        let bytes = BASE64.decode(data.trim()).map_err(|_| {
            (
                "the embedded data is not base64".to_owned(),
                "embed it with --embed-certs=true",
            )
        })?;
        return Ok(Some(bytes));
    }
    let Some(file) = file else { return Ok(None) };
    let path = beside.parent().unwrap_or(Path::new("/")).join(file);
    match facts.at(&path) {
        FileFact::File { bytes, .. } => Ok(Some(bytes.clone())),
        FileFact::Absent | FileFact::Directory(_) | FileFact::Unreadable(_) => Err((
            format!("cannot read {}, which the kubeconfig names", path.display()),
            "copy the file there, or embed it with --embed-certs=true",
        )),
    }
}

pub(super) fn token(path: &Path, facts: &Facts) -> Option<String> {
    read(facts.text(path)?, path, facts).ok()?.token
}

/// An API server and its CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The URL, `https://…`.
    pub url: String,
    /// The CA that signed its certificate, as PEM.
    pub ca: Vec<u8>,
}

/// Returns the servers in the node's kubeconfigs, each once.
pub fn servers(model: &Model, facts: &Facts) -> Vec<Server> {
    let mut servers = Vec::new();
    for name in ["bootstrap", "kubelet", "kube-proxy"] {
        let path = model.dirs.kubernetes.join(format!("{name}.kubeconfig"));
        let access = facts
            .text(&path)
            .and_then(|text| read(text, &path, facts).ok());
        let server = access.and_then(|access| {
            Some(Server {
                url: access.server,
                ca: access.ca?,
            })
        });
        servers.extend(
            server.filter(|server| server.url.starts_with("https://") && !servers.contains(server)),
        );
    }
    servers
}

/// Returns the files that a kubeconfig names, which have to be read as well.
pub fn files(text: &str, path: &Path) -> Vec<PathBuf> {
    let Ok(file) = serde_saphyr::from_str::<File>(text) else {
        return Vec::new();
    };
    let entries = file
        .clusters
        .into_iter()
        .chain(file.users)
        .filter_map(|named| named.cluster.or(named.user));
    let named = entries.flat_map(|entry| {
        [
            entry.certificate_authority,
            entry.client_certificate,
            entry.client_key,
        ]
    });
    named
        .flatten()
        .map(|file| path.parent().unwrap_or(Path::new("/")).join(file))
        .collect()
}

fn verdicts(access: &Access, path: &Path, now: u64, role: Role<'_>) -> Vec<Finding> {
    let mut findings = server(access, path);
    findings.extend(credentials(access, path, now, role));
    let good = format!("{}: the server is {}", path.display(), access.server);
    or_ok(findings, ID, good)
}

fn server(access: &Access, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let host = access
        .server
        .strip_prefix("https://")
        .map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    match host {
        None | Some("") => findings.push(error(
            path,
            &format!("the server is {:?}", access.server),
            "set an https:// URL with kubectl config set-cluster",
        )),
        Some("localhost" | "127.0.0.1") => findings.push(Finding::warning(
            ID,
            format!("{}: the server is {}", path.display(), access.server),
            "the API server's address, unless a proxy to it runs on this node",
            "kubectl config set-cluster NAME --server=https://…: the kubelet copies the address permanently",
        )),
        Some(_) => {}
    }
    if access.skips_verification {
        findings.push(error(
            path,
            "insecure-skip-tls-verify is on, so any host can pose as the API server",
            "embed the CA instead",
        ));
    } else if access.ca.is_none() {
        findings.push(error(
            path,
            "there is no CA",
            "kubectl config set-cluster NAME --certificate-authority=ca.pem --embed-certs=true",
        ));
    }
    findings
}

fn credentials(access: &Access, path: &Path, now: u64, role: Role<'_>) -> Vec<Finding> {
    let (found, fix) = match (role, &access.token, &access.certificate) {
        (_, None, None) => (
            "the user has neither token nor certificate",
            "kubectl config set-credentials",
        ),
        (_, Some(_), Some(_)) => (
            "the user has a token and a certificate",
            "one of them: the certificate takes precedence over the token",
        ),
        (Role::Bootstrap, None, Some(_)) => (
            "the user has a certificate",
            "use a token only, as the bootstrap requires",
        ),
        (Role::Bootstrap, Some(token), None) => return bootstrap_token(token, path),
        (Role::Proxy | Role::Kubelet(_), Some(_), None) => return Vec::new(),
        (_, None, Some(certificate)) => return client(access, certificate, path, now, role),
    };
    vec![error(path, found, fix)]
}

fn bootstrap_token(token: &str, path: &Path) -> Vec<Finding> {
    let hex = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let part = |part: &str, length| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let made = token
        .split_once('.')
        .is_some_and(|(id, secret)| part(id, 6) && part(secret, 16));
    let odd = Finding::warning(
        ID,
        format!("{}: the token has an unusual form", path.display()),
        "32 hexadecimal digits as in token.csv, or ID.SECRET as created by `kubeadm token create`",
        "create a token: head -c 16 /dev/urandom | od -An -t x | tr -d ' '",
    );
    if hex || made { Vec::new() } else { vec![odd] }
}

fn client(
    access: &Access,
    certificate: &[u8],
    path: &Path,
    now: u64,
    role: Role<'_>,
) -> Vec<Finding> {
    let authority = access.ca.as_deref().map(|ca| certs::authority(ca, now));
    let authority = match authority {
        Some(Err(fault)) => {
            return vec![error(path, &format!("CA: {}", fault.found), fault.fix)];
        }
        Some(Ok(authority)) => authority,
        None => return Vec::new(),
    };
    if access.key.is_none() {
        return vec![error(
            path,
            "the user has a certificate but no key",
            "kubectl config set-credentials NAME --client-key=…",
        )];
    }
    let (identity, fault) = certs::client(certificate, access.key.as_deref(), &authority, now);
    let what = format!("{}: certificate", path.display());
    let fault = fault.map(|fault| fault.finding(ID, &what, EXPECTED));
    fault
        .into_iter()
        .chain(identity.and_then(|identity| wrong_name(&identity, path, role)))
        .collect()
}

fn wrong_name(identity: &Identity, path: &Path, role: Role<'_>) -> Option<Finding> {
    let (want, fix) = match role {
        Role::Bootstrap => return None,
        Role::Proxy => (
            "system:kube-proxy".to_owned(),
            "sign one with this common name, to which the role system:node-proxier is bound",
        ),
        Role::Kubelet(name) => (
            format!("system:node:{name}"),
            "the certificate belongs to another node or cluster: move the file elsewhere, and the kubelet requests a new certificate",
        ),
    };
    (identity.name != want).then(|| {
        Finding::error(
            ID,
            format!(
                "{}: the certificate is for {:?}",
                path.display(),
                identity.name
            ),
            &want,
            fix,
        )
    })
}

fn error(path: &Path, found: &str, fix: &str) -> Finding {
    Finding::error(ID, format!("{}: {found}", path.display()), EXPECTED, fix)
}
