//! `node-setup check --online` and API servers: a real TLS server that gives the answer of one.

use crate::support::tool::rflannel;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::certs::Ca;

/// `openssl s_server`: answers with the files of its directory, status line and all.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(ca: &Ca, host: &str) -> Self {
        let (certificate, key) = ca.sign("api", host, 2040);
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"major\": \"1\", \"gitVersion\": \"v1.20.15\"}";
        fs::write(ca.dir().join("version"), answer).unwrap();
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-HTTP", "-cert"])
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .current_dir(ca.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned()));
        Self {
            process,
            url: format!("https://127.0.0.1:{}", port.unwrap()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node whose kubeconfig leads to `server`, whom it knows by `ca`.
fn node(server: &str, ca: &Path) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/kubernetes");
    fs::create_dir_all(&directory).unwrap();
    fs::copy(ca, directory.join("ca.pem")).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: default\nclusters:\n- name: kubernetes\n  cluster:\n    \
         server: {server}\n    certificate-authority: ca.pem\nusers:\n- name: u\n  user:\n    token: 0123456789abcdef0123456789abcdef\n\
         contexts:\n- name: default\n  context: {{cluster: kubernetes, user: u}}\n"
    );
    fs::write(directory.join("bootstrap.kubeconfig"), text).unwrap();
    root
}

/// What the check says of API servers. etcd is out of reach, which it says as well.
fn told(root: &TempDir, release: &str) -> String {
    let output = Command::new(rflannel())
        .args([
            "node-setup",
            "check",
            "--online",
            "--node-ip=10.64.3.7",
            "--etcd-endpoints=http://127.0.0.1:1",
        ])
        .arg(format!("--kubernetes-version={release}"))
        .arg("--root")
        .arg(root.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains(" api-server "))
        .collect();
    assert!(
        !lines.is_empty(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    lines.join("\n")
}

#[test]
fn a_check_compares_the_api_servers_release_with_the_nodes() {
    let ca = Ca::new();
    let server = Server::start(&ca, "127.0.0.1");
    let root = node(&server.url, &ca.file());
    assert!(
        told(&root, "1.20").starts_with(&format!(
            "ok       api-server           {} runs v1.20.15",
            server.url
        )),
        "{}",
        told(&root, "1.20")
    );
    let newer = told(&root, "1.21");
    assert!(
        newer.starts_with("error ") && newer.contains("runs v1.20.15, this node 1.21"),
        "{newer}"
    );
}

#[test]
fn a_check_says_what_is_wrong_on_the_way_to_an_api_server() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = Server::start(&ca, "127.0.0.1");
    let stranger = told(&node(&server.url, &other.file()), "1.20");
    assert!(
        stranger.starts_with("error ") && stranger.contains("UnknownIssuer"),
        "{stranger}"
    );
    let misnamed = Server::start(&ca, "10.1.2.3");
    let misnamed = told(&node(&misnamed.url, &ca.file()), "1.20");
    assert!(
        misnamed.starts_with("error ") && misnamed.contains("not valid for"),
        "{misnamed}"
    );
    let silent = told(&node("https://127.0.0.1:1", &ca.file()), "1.20");
    assert!(
        silent.starts_with("error ") && silent.contains("Connection refused"),
        "{silent}"
    );
}
