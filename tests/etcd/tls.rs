//! TLS files: kinds of keys, mutual TLS, and a message for each that is broken.

use std::path::{Path, PathBuf};
use std::process::Command;

use flanneld::config::EtcdConfig;
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::{Error, SubnetManager};
use rcgen::KeyPair;

use crate::manager;
use crate::support::certs::Ca;
use crate::support::etcd::{Etcd, ServerTls, config};

pub(crate) const VALID: i32 = 2090;

pub(crate) const HOST: &str = "127.0.0.1";

pub(crate) async fn server(ca: &Ca, clients: bool, host: &str, year: i32) -> Etcd {
    let (cert, key) = ca.sign("server", host, year);
    let ca_file = ca.file();
    Etcd::start_tls(&ServerTls {
        pair: (&cert, &key),
        client_ca: clients.then_some(ca_file.as_path()),
    })
    .await
}

pub(crate) fn files(etcd: &Etcd, ca: &Path, pair: Option<(PathBuf, PathBuf)>) -> EtcdConfig {
    EtcdConfig {
        ca_file: Some(ca.to_owned()),
        client_pair: pair,
        ..etcd.config()
    }
}

/// The server answers: it has no configuration.
pub(crate) async fn answers(config: EtcdConfig) {
    let error = manager(config).network_config().await.unwrap_err();
    assert!(matches!(error, Error::NoConfig { .. }), "{error}");
}

pub(crate) async fn refuses(config: EtcdConfig, words: &[&str]) {
    let error = manager(config).network_config().await.unwrap_err();
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} in {error}");
    }
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_ca_alone_is_enough_where_clients_need_no_certificate() {
    let ca = Ca::new();
    let etcd = server(&ca, false, HOST, VALID).await;
    answers(files(&etcd, &ca.file(), None)).await;
}

#[tokio::test]
async fn a_client_pair_is_presented_in_every_usual_form() {
    let ca = Ca::new();
    let etcd = server(&ca, true, HOST, VALID).await;
    answers(files(
        &etcd,
        &ca.file(),
        Some(ca.sign("pkcs8", "flannel", VALID)),
    ))
    .await;
    for (name, make) in [
        ("pkcs1", &["genrsa", "-traditional", "2048"][..]),
        (
            "sec1",
            &["ecparam", "-name", "prime256v1", "-genkey", "-noout"],
        ),
    ] {
        let pem = openssl(make, "");
        let key = KeyPair::from_pem(&openssl(&["pkcs8", "-topk8", "-nocrypt"], &pem)).unwrap();
        let pair = ca.sign_key(name, "flannel", VALID, &key);
        std::fs::write(&pair.1, pem).unwrap();
        answers(files(&etcd, &ca.file(), Some(pair))).await;
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_refused_with_the_reason() {
    let (ca, other) = (Ca::new(), Ca::new());
    let etcd = server(&ca, false, HOST, VALID).await;
    refuses(
        files(&etcd, &other.file(), None),
        &["not signed by a CA in -etcd-cafile"],
    )
    .await;
    let misnamed = server(&ca, false, "elsewhere", VALID).await;
    refuses(
        files(&misnamed, &ca.file(), None),
        &["does not name this endpoint"],
    )
    .await;
    let expired = server(&ca, false, HOST, 2021).await;
    refuses(
        files(&expired, &ca.file(), None),
        &["expired", "renew the server's certificate"],
    )
    .await;
}

#[tokio::test]
async fn untrusted_client_certificate_is_reported() {
    let (ca, other) = (Ca::new(), Ca::new());
    let etcd = server(&ca, true, HOST, VALID).await;
    let words = &["-etcd-certfile and -etcd-keyfile"];
    refuses(files(&etcd, &ca.file(), None), words).await;
    refuses(
        files(
            &etcd,
            &ca.file(),
            Some(other.sign("stranger", "flannel", VALID)),
        ),
        words,
    )
    .await;
    refuses(
        files(&etcd, &ca.file(), Some(ca.sign("old", "flannel", 2021))),
        words,
    )
    .await;
}

#[tokio::test]
async fn tls_to_a_plain_server_says_so() {
    let (ca, etcd) = (Ca::new(), Etcd::start().await);
    let config = EtcdConfig {
        endpoints: vec![format!("https://{}", etcd.address)],
        ca_file: Some(ca.file()),
        ..etcd.config()
    };
    let error = manager(config).network_config().await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn plain_request_to_a_tls_port_says_so() {
    let ca = Ca::new();
    for clients in [false, true] {
        let etcd = server(&ca, clients, HOST, VALID).await;
        let error = manager(config(vec![format!("http://{}", etcd.address)]))
            .network_config()
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the port speaks TLS (write https://"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_plain_endpoint_works_beside_tls_files() {
    let (ca, etcd) = (Ca::new(), Etcd::start().await);
    answers(EtcdConfig {
        ca_file: Some(ca.file()),
        ..etcd.config()
    })
    .await;
}

#[tokio::test]
async fn rotated_certificates_are_picked_up_and_broken_ones_are_not() {
    let ca = Ca::new();
    let mut etcd = server(&ca, true, HOST, VALID).await;
    let pair = ca.sign("client", "flannel", VALID);
    let manager = manager(files(&etcd, &ca.file(), Some(pair.clone())));
    assert!(matches!(
        manager.network_config().await,
        Err(Error::NoConfig { .. })
    ));
    std::fs::write(&pair.0, "half a file").unwrap();
    etcd.kill();
    etcd.restart().await;
    assert!(matches!(
        manager.network_config().await,
        Err(Error::NoConfig { .. })
    ));
    // Another CA signs the server and the client from now on.
    let new = Ca::new();
    server_files_from(&new, &ca);
    new_client_from(&new, &pair);
    etcd.kill();
    etcd.restart().await;
    assert!(matches!(
        manager.network_config().await,
        Err(Error::NoConfig { .. })
    ));
}

fn server_files_from(new: &Ca, old: &Ca) {
    let (cert, key) = new.sign("server", HOST, VALID);
    std::fs::copy(cert, old.dir().join("server.pem")).unwrap();
    std::fs::copy(key, old.dir().join("server.key")).unwrap();
    std::fs::copy(new.file(), old.file()).unwrap();
}

fn new_client_from(new: &Ca, pair: &(PathBuf, PathBuf)) {
    let (cert, key) = new.sign("client", "flannel", VALID);
    std::fs::copy(cert, &pair.0).unwrap();
    std::fs::copy(key, &pair.1).unwrap();
}

#[test]
fn every_broken_file_is_named_with_cause_and_remedy() {
    let ca = Ca::new();
    let (cert, key) = ca.sign("client", "flannel", VALID);
    let (_, strange_key) = ca.sign("stranger", "flannel", VALID);
    let write = |name: &str, text: &str| {
        let path = ca.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let garbage = write("garbage", "hello");
    let damaged = write(
        "damaged",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    );
    let no_der = write(
        "no-der",
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    );
    let pem = std::fs::read_to_string(&key).unwrap();
    let encrypted = write(
        "encrypted",
        &openssl(&["pkcs8", "-topk8", "-passout", "pass:x"], &pem),
    );
    let missing = ca.dir().join("missing");
    let good_ca = ca.file();
    for (ca_file, cert_file, key_file, words) in [
        (
            &missing,
            &cert,
            &key,
            ["-etcd-cafile", "missing", "No such file"],
        ),
        (
            &ca.dir().to_owned(),
            &cert,
            &key,
            ["-etcd-cafile", "cannot read it", "directory"],
        ),
        (
            &garbage,
            &cert,
            &key,
            ["-etcd-cafile", "garbage", "it contains no certificate"],
        ),
        (&damaged, &cert, &key, ["-etcd-cafile", "damaged", "PEM"]),
        (
            &no_der,
            &cert,
            &key,
            ["-etcd-cafile", "no-der", "no readable certificate"],
        ),
        (
            &key,
            &cert,
            &key,
            ["-etcd-cafile", "private key", "swapped"],
        ),
        (
            &good_ca,
            &missing,
            &key,
            ["-etcd-certfile", "missing", "No such file"],
        ),
        (
            &good_ca,
            &key,
            &cert,
            ["-etcd-certfile", "private key", "swapped"],
        ),
        (
            &good_ca,
            &no_der,
            &key,
            ["-etcd-certfile", "no-der", "cannot be read"],
        ),
        (
            &good_ca,
            &cert,
            &missing,
            ["-etcd-keyfile", "missing", "No such file"],
        ),
        (
            &good_ca,
            &cert,
            &cert,
            ["-etcd-keyfile", "certificate", "swapped"],
        ),
        (
            &good_ca,
            &cert,
            &garbage,
            ["-etcd-keyfile", "garbage", "no private key"],
        ),
        (
            &good_ca,
            &cert,
            &encrypted,
            ["-etcd-keyfile", "encrypted", "openssl pkey"],
        ),
        (
            &good_ca,
            &cert,
            &strange_key,
            ["-etcd-keyfile", "stranger.key", "not the key of"],
        ),
    ] {
        let config = EtcdConfig {
            ca_file: Some(ca_file.clone()),
            client_pair: Some((cert_file.clone(), key_file.clone())),
            ..config(vec!["https://127.0.0.1:2379".into()])
        };
        let error = EtcdManager::new(config)
            .err()
            .expect("it is refused")
            .to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{words:?} in {error}"
        );
    }
}

#[test]
fn https_without_a_ca_is_refused() {
    let error = EtcdManager::new(config(vec!["https://127.0.0.1:2379".into()]))
        .err()
        .unwrap();
    assert!(error.to_string().contains("-etcd-cafile"), "{error}");
}

fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl starts (Debian package openssl)");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
