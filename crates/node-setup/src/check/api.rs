//! Asks API servers for their version, trusting the CA of the kubeconfigs that name them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::facts::Facts;
use super::kubeconfig::{self, Server};
use crate::finding::Finding;
use crate::model::Model;
use crate::versions::KubeVersion;
use flanneld::resolver;

const ID: &str = "api-server";
/// Time limit for one server.
const PATIENCE: Duration = Duration::from_secs(8);
/// Size limit of an answer in bytes; larger than any version.
const LIMIT: usize = 64 << 10;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Asks every API server in the kubeconfigs for its version and compares it with the node's.
pub async fn judge(model: &Model, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in kubeconfig::servers(model, facts) {
        let answer = tokio::time::timeout(PATIENCE, ask(&server)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()).into()));
        findings.push(match answer {
            Ok((status, body)) => said(model.kubernetes, &server.url, status, &body),
            Err(error) => Finding::error(
                ID,
                format!("{}: {error}", server.url),
                "an answer to GET /version, with a certificate signed by the kubeconfig's CA",
                "check that the server runs, and that the address and the CA in the kubeconfig are correct",
            ),
        });
    }
    findings
}

/// Returns the status and the body of the answer.
async fn ask(server: &Server) -> Result<(StatusCode, Vec<u8>), Failed> {
    let url: Uri = server.url.parse()?;
    let (host, port) = (
        url.host().ok_or("the URL has no host")?,
        url.port_u16().unwrap_or(443),
    );
    let name = host.trim_matches(['[', ']']).to_owned();
    let tcp = TcpStream::connect(&*resolver::lookup(&name, port).await?).await?;
    let connector = TlsConnector::from(trusting(&server.ca)?);
    let tls = connector.connect(ServerName::try_from(name)?, tcp).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
    let request = Request::get("/version")
        .header(HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())?;
    // The task ends with the connection. Its errors reach the request as well.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIMIT).collect().await?;
    Ok((status, body.to_bytes().to_vec()))
}

fn trusting(ca: &[u8]) -> Result<Arc<ClientConfig>, Failed> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.map_err(io::Error::other)?)?;
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

/// Judges an answer for a node of release `node`.
fn said(node: KubeVersion, url: &str, status: StatusCode, body: &[u8]) -> Finding {
    if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
        return Finding::ok(
            ID,
            format!("{url} answers, but does not report its version without login"),
        );
    }
    let version = serde_json::from_slice::<Version>(body)
        .ok()
        .filter(|_| status == StatusCode::OK);
    let Some(Version { git_version }) = version else {
        return Finding::error(
            ID,
            format!(
                "{url} answers with status {} and without a version of Kubernetes",
                status.as_u16()
            ),
            "an API server",
            "correct the server in the kubeconfig: another program listens there",
        );
    };
    match git_version.parse() {
        Ok(server) if !serves(server, node) => Finding::error(
            ID,
            format!("{url} runs {git_version}, this node {node}"),
            "a server of the same release as its nodes, or a few releases newer",
            "set --kubernetes-version to that release or an older one, and install that kubelet; upgrade servers before nodes",
        ),
        Ok(_) | Err(_) => Finding::ok(ID, format!("{url} runs {git_version}")),
    }
}

/// Returns whether the versions fit: nodes may be two releases older than the server, since 1.28 three, and never newer.
fn serves(server: KubeVersion, node: KubeVersion) -> bool {
    let behind = if server >= KubeVersion(28) { 3 } else { 2 };
    node <= server && server.0 - node.0 <= behind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Level;

    #[test]
    fn node_version_skew_is_checked_against_its_server() {
        let with = |server, node| serves(KubeVersion(server), KubeVersion(node));
        assert!(with(20, 20) && with(20, 18) && with(28, 25) && with(35, 32));
        assert!(!with(20, 21) && !with(20, 17) && !with(28, 24) && !with(27, 24));
    }

    #[test]
    fn an_answer_is_a_version_or_it_is_told_what_it_is() {
        let told = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let finding = said(KubeVersion(20), "https://a:6443", status, body.as_bytes());
            (finding.level, finding.found)
        };
        assert_eq!(
            told(200, r#"{"gitVersion": "v1.20.15", "major": "1"}"#).0,
            Level::Ok
        );
        assert_eq!(told(200, r#"{"gitVersion": "v1.19.1"}"#).0, Level::Error);
        assert_eq!(told(403, "{}").0, Level::Ok);
        for (status, body) in [
            (200, r#"{"etcdserver":"3.4.23"}"#),
            (404, "not here"),
            (500, r#"{"gitVersion": "v1.20.1"}"#),
        ] {
            let (level, found) = told(status, body);
            assert!(
                level == Level::Error && found.contains("without a version of Kubernetes"),
                "{found}"
            );
        }
    }
}
