//! Endpoints and logins: dead, hung, wrong.

use std::net::TcpListener;

use etcd_client::{Client, Permission};
use flanneld::config::{EtcdConfig, Secret};
use flanneld::subnet::etcd::EtcdManager;
use flanneld::subnet::{Error, SubnetManager};

use crate::support::etcd::{Etcd, PREFIX, config, free_address, refusing};
use crate::{NETWORK, acquire, claim, configure, manager};

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let (_reserved, dead) = refusing();
    let manager = manager(config(vec![dead.to_string(), etcd.url()]));
    for _ in 0..20 {
        manager.network_config().await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_endpoint_is_passed_over_once() {
    let etcd = Etcd::start().await;
    let config_in_etcd = configure(&etcd, NETWORK).await;
    // Accepts into its backlog, never answers.
    let silent = TcpListener::bind(free_address()).unwrap();
    let manager = manager(config(vec![
        silent.local_addr().unwrap().to_string(),
        etcd.url(),
    ]));
    manager.network_config().await.unwrap();
    acquire(&manager, &config_in_etcd, &claim([10, 0, 0, 1]))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_endpoint_that_freezes_is_left() {
    let (first, second) = (Etcd::start().await, Etcd::start().await);
    let config_in_etcd = configure(&first, NETWORK).await;
    configure(&second, NETWORK).await;
    let manager = manager(config(vec![first.url(), second.url()]));
    manager.network_config().await.unwrap();
    first.freeze();
    manager.network_config().await.unwrap();
    let lease = acquire(&manager, &config_in_etcd, &claim([10, 0, 0, 1]))
        .await
        .unwrap();
    let other = EtcdManager::new(second.config()).unwrap();
    assert_eq!(other.snapshot().await.unwrap().leases, [lease]);
}

#[tokio::test]
async fn no_endpoint_at_all_is_told_with_every_cause() {
    let etcd = Etcd::start().await;
    let (_reserved, dead) = refusing();
    let dead = dead.to_string();
    etcd.freeze();
    let error = manager(config(vec![dead.clone(), etcd.url()]))
        .network_config()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "cannot read the network configuration",
        &dead,
        "refused",
        &etcd.url(),
        "no answer within 2 s",
    ] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(!text.contains('\n'));
}

#[tokio::test]
async fn a_restarted_server_is_found_again_at_the_first_request() {
    let mut etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    let manager = manager(etcd.config());
    manager.network_config().await.unwrap();
    etcd.kill();
    etcd.restart().await;
    manager.network_config().await.unwrap();
}

#[tokio::test]
async fn endpoint_name_without_an_address_is_named() {
    let error = manager(config(vec!["http://no-such-host.invalid:2379".into()]))
        .network_config()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot resolve no-such-host.invalid: "),
        "{error}"
    );
    assert!(matches!(error, Error::Unavailable(_)));
}

/// Switches authentication on: `root`, and `flannel` who may use the prefix.
async fn protect(client: &mut Client) {
    let mut auth = client.auth_client();
    for (user, role) in [
        ("root", "root"),
        ("flannel", "network"),
        ("stranger", "nothing"),
    ] {
        auth.user_add(user, "right", None).await.unwrap();
        auth.role_add(role).await.unwrap();
        auth.user_grant_role(user, role).await.unwrap();
    }
    let all = Permission::read_write(format!("{PREFIX}/")).with_prefix();
    auth.role_grant_permission("network", all).await.unwrap();
    auth.auth_enable().await.unwrap();
}

fn login(etcd: &Etcd, name: &str, password: &str) -> EtcdConfig {
    EtcdConfig {
        login: Some((name.into(), Secret::new(password.into()))),
        ..etcd.config()
    }
}

#[tokio::test]
async fn the_right_password_opens_and_all_else_is_refused() {
    let etcd = Etcd::start().await;
    let config_in_etcd = configure(&etcd, NETWORK).await;
    protect(&mut etcd.client().await).await;
    let good = manager(login(&etcd, "flannel", "right"));
    acquire(&good, &config_in_etcd, &claim([10, 0, 0, 1]))
        .await
        .unwrap();
    let login_hint = "-etcd-username/-etcd-password";
    for (stranger, hint) in [
        (login(&etcd, "flannel", "wrong"), login_hint),
        (login(&etcd, "unknown", "right"), login_hint),
        (
            login(&etcd, "stranger", "right"),
            "this user's roles lack a permission",
        ),
        (etcd.config(), login_hint),
    ] {
        let error = manager(stranger).network_config().await.unwrap_err();
        assert!(error.is_refusal(), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
        assert!(
            !error.to_string().contains("wrong"),
            "no password in messages: {error}"
        );
    }
}

#[tokio::test]
async fn a_token_that_died_with_the_server_is_replaced() {
    let mut etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    protect(&mut etcd.client().await).await;
    let manager = manager(login(&etcd, "flannel", "right"));
    manager.network_config().await.unwrap();
    etcd.kill();
    etcd.restart().await;
    manager.network_config().await.unwrap();
}

/// A connection that was made without a login stands when authentication is switched on.
#[tokio::test]
async fn a_connection_without_login_logs_in_when_it_has_to() {
    let etcd = Etcd::start().await;
    let config = configure(&etcd, NETWORK).await;
    let first = manager(login(&etcd, "flannel", "right"));
    first.network_config().await.unwrap();
    let without_login = manager(etcd.config());
    without_login.network_config().await.unwrap();

    protect(&mut etcd.client().await).await;
    first.network_config().await.unwrap();
    acquire(&first, &config, &claim([10, 0, 0, 1]))
        .await
        .unwrap();
    let error = without_login.network_config().await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert!(error.to_string().contains("user name is empty"), "{error}");
}

#[tokio::test]
async fn a_login_is_not_needed_where_authentication_is_off() {
    let etcd = Etcd::start().await;
    configure(&etcd, NETWORK).await;
    manager(login(&etcd, "flannel", "right"))
        .network_config()
        .await
        .unwrap();
}
