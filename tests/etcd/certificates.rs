//! Certificates as `openssl` makes them for people who give it few options.

use std::path::{Path, PathBuf};
use std::process::Command;

use flanneld::config::EtcdConfig;
use flanneld::subnet::SubnetManager;
use flanneld::subnet::etcd::EtcdManager;

use crate::manager;
use crate::support::certs::Ca;
use crate::support::etcd::{Etcd, ServerTls, config};
use crate::tls::{HOST, VALID, answers, files, refuses, server};

/// Kinds of keys as `openssl genpkey` names them.
const P521: &[&str] = &[
    "-algorithm",
    "EC",
    "-pkeyopt",
    "ec_paramgen_curve:secp521r1",
];
const RSA_1024: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
const RSA_2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const RSA_4096: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"];
const RSA_5120: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:5120"];
const P384: &[&str] = &[
    "-algorithm",
    "EC",
    "-pkeyopt",
    "ec_paramgen_curve:secp384r1",
];
const ED25519: &[&str] = &["-algorithm", "ED25519"];
const ED448: &[&str] = &["-algorithm", "ED448"];
const SECP256K1: &[&str] = &[
    "-algorithm",
    "EC",
    "-pkeyopt",
    "ec_paramgen_curve:secp256k1",
];

/// Runs `openssl` in a directory.
fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(dir)
        .output();
    let output = output.expect("openssl starts (Debian package openssl)");
    assert!(
        output.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A certificate that the CA signs by `openssl x509 -req`: without extensions it is of version 1.
fn signed(ca: &Ca, name: &str, kind: &[&str], extensions: &str) -> (PathBuf, PathBuf) {
    let dir = ca.dir();
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    openssl(dir, &format!("genpkey {} -out {name}.key", kind.join(" ")));
    openssl(
        dir,
        &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"),
    );
    let with = if extensions.is_empty() {
        ""
    } else {
        "-extfile extensions"
    };
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey {} -CAcreateserial -days 3650 {with} -out {name}.pem",
            ca.key_file().display()
        ),
    );
    (
        dir.join(format!("{name}.pem")),
        dir.join(format!("{name}.key")),
    )
}

async fn server_with(pair: &(PathBuf, PathBuf)) -> Etcd {
    Etcd::start_tls(&ServerTls {
        pair: (&pair.0, &pair.1),
        client_ca: None,
    })
    .await
}

fn version(certificate: &Path) -> String {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(certificate)
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Version: "))
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn client_certificate_of_version_1_is_sent() {
    let ca = Ca::new();
    let etcd = server(&ca, true, HOST, VALID).await;
    let pair = signed(&ca, "version-1", RSA_2048, "");
    assert_eq!(
        version(&pair.0),
        "1 (0x0)",
        "as made by `openssl x509 -req` without extensions"
    );
    answers(files(&etcd, &ca.file(), Some(pair))).await;
}

#[tokio::test]
async fn client_key_of_each_usable_kind_is_used() {
    let ca = Ca::new();
    let etcd = server(&ca, true, HOST, VALID).await;
    for (name, kind) in [("p384", P384), ("rsa-4096", RSA_4096), ("ed25519", ED25519)] {
        let pair = signed(&ca, name, kind, "");
        answers(files(&etcd, &ca.file(), Some(pair))).await;
    }
}

#[tokio::test]
async fn server_certificate_in_the_ca_file_is_trusted() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let by_another_ca = ca.sign("server", HOST, VALID);
    openssl(
        dir.path(),
        "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 3650 -subj /CN=etcd -addext subjectAltName=IP:127.0.0.1",
    );
    let self_signed_ca = (dir.path().join("own.pem"), dir.path().join("own.key"));
    for pair in [by_another_ca, self_signed_ca] {
        let etcd = server_with(&pair).await;
        answers(files(&etcd, &pair.0, None)).await;
    }
}

#[tokio::test]
async fn trusted_server_certificate_still_needs_name_and_validity() {
    let ca = Ca::new();
    for (host, year, why) in [
        (
            "192.0.2.1",
            VALID,
            "the server's certificate does not name this endpoint",
        ),
        (HOST, 2021, "the server's certificate has expired"),
    ] {
        let pair = ca.sign("server", host, year);
        let etcd = server_with(&pair).await;
        refuses(files(&etcd, &pair.0, None), &[why]).await;
    }
    let client_only = signed(
        &ca,
        "server",
        RSA_2048,
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth",
    );
    let etcd = server_with(&client_only).await;
    refuses(files(&etcd, &client_only.0, None), &["not for a server"]).await;
}

/// Another key under the same names does not pass for the certificate in the file.
#[tokio::test]
async fn server_certificate_like_the_trusted_one_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let trusted = ca.sign("server", HOST, VALID);
    let etcd = server_with(&other.sign("server", HOST, VALID)).await;
    refuses(
        files(&etcd, &trusted.0, None),
        &["not signed by a CA in -etcd-cafile"],
    )
    .await;
}

#[tokio::test]
async fn server_certificate_that_is_a_ca_names_the_remedy() {
    let ca = Ca::new();
    let pair = signed(
        &ca,
        "server",
        RSA_2048,
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:TRUE",
    );
    let etcd = server_with(&pair).await;
    refuses(
        files(&etcd, &ca.file(), None),
        &["is a CA certificate", "add it to the file of -etcd-cafile"],
    )
    .await;
    answers(files(&etcd, &pair.0, None)).await;
}

#[test]
fn client_key_of_an_unsupported_kind_is_named() {
    let ca = Ca::new();
    for (name, kind, words) in [
        (
            "rsa-1024",
            RSA_1024,
            "an RSA key of 1024 bits cannot be used",
        ),
        (
            "rsa-5120",
            RSA_5120,
            "an RSA key of 5120 bits cannot be used",
        ),
        ("p521", P521, "an EC key on P-521 cannot be used"),
        ("ed448", ED448, "an Ed448 key cannot be used"),
        (
            "secp256k1",
            SECP256K1,
            "an EC key on secp256k1 cannot be used",
        ),
    ] {
        let config = EtcdConfig {
            ca_file: Some(ca.file()),
            client_pair: Some(signed(&ca, name, kind, "")),
            ..config(vec!["https://127.0.0.1:2379".into()])
        };
        let error = EtcdManager::new(config)
            .err()
            .expect("it is refused")
            .to_string();
        for words in [
            words,
            "RSA with 2048 to 4096 bits, EC on P-256 or P-384, or Ed25519",
        ] {
            assert!(error.contains(words), "{words:?} in {error}");
        }
    }
}

/// What the cryptography of this build cannot check is said in words as well.
#[tokio::test]
async fn server_key_of_an_unsupported_kind_is_named() {
    let ca = Ca::new();
    for kind in [RSA_1024, P521] {
        let etcd = server_with(&signed(&ca, "server", kind, "subjectAltName=IP:127.0.0.1")).await;
        let error = manager(files(&etcd, &ca.file(), None))
            .network_config()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("RSA with 2048 to 8192 bits, EC on P-256 or P-384, or Ed25519"),
            "{error}"
        );
    }
}
