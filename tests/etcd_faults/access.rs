//! Who may talk to etcd: logins, rights and certificates that change while the daemons run.

use lab::{Lab, LabError, wait_until};

use crate::outage::{Outage, RECOVERED, outage};
use crate::{PREFIX, Test, options, peers, start};

const ROOT: &str = "root:secret";

/// Makes the users: `root`, and `flannel` with all rights below the prefix.
fn make_users(lab: &mut Lab) -> Test {
    let prefix = format!("{PREFIX}/");
    for args in [
        &["user", "add", ROOT][..],
        &["user", "add", "flannel:overlay"],
        &["role", "add", "net"],
        &[
            "role",
            "grant-permission",
            "net",
            "readwrite",
            "--prefix=true",
            &prefix,
        ],
        &["user", "grant-role", "flannel", "net"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        lab.etcd()?.ctl(args.iter().copied())?;
    }
    lab.etcd_mut()?.log_in(Some(ROOT));
    Ok(())
}

fn restart_members(lab: &mut Lab) -> Test {
    for member in 1..=3 {
        lab.etcd_mut()?.kill(member)?;
        lab.etcd_mut()?.start_member(member)?;
        lab.etcd()?.wait_healthy()?;
    }
    Ok(())
}

/// Deletes the key of host 1's lease, and waits until it is back: something that the daemon needs its rights for.
fn host_1_writes(lab: &Lab) -> Test {
    let key = crate::own_key(lab, 1);
    lab.etcd()?.delete(&key)?;
    let mut seen = None;
    let written = wait_until(RECOVERED, || {
        let read = lab.etcd().and_then(|etcd| etcd.get(&key));
        let is_there = matches!(read, Ok(Some(_)));
        seen = Some(read);
        is_there
    });
    assert!(
        written,
        "host 1 does not write its lease again within {RECOVERED:?}; etcd has {seen:?}; it says {}",
        crate::log(lab.host(1))
    );
    Ok(())
}

#[test]
fn logins_and_rights_may_come_and_go() -> Test {
    let login = ["-etcd-username=flannel", "-etcd-password=overlay"];
    let mut lab = start(options(2).no_tls().flanneld_args(login))?;
    let lab = &mut lab;
    make_users(lab)?;

    let mut tokens = Outage::begin("tokens expired", lab)?;
    restart_members(lab)?;
    // Forgets all tokens while the connections stand, as the end of their life does: etcd 3.4 cannot shorten that.
    lab.etcd()?.ctl(["auth", "disable"])?;
    lab.etcd_mut()?.log_in(None);
    lab.etcd()?.ctl(["auth", "enable"])?;
    lab.etcd_mut()?.log_in(Some(ROOT));
    tokens.was_silent();
    peers::change(lab)?;
    tokens.ends(lab)?;
    host_1_writes(lab)?;

    let prefix = format!("{PREFIX}/");
    let revoke = [
        "role",
        "revoke-permission",
        "net",
        "--prefix=true",
        prefix.as_str(),
    ];
    let lease_id = [
        "role",
        "grant-permission",
        "net",
        "readwrite",
        "--prefix=true",
        prefix.as_str(),
    ];
    outage(
        "rights revoked and given back",
        lab,
        |lab| {
            lab.etcd()?.ctl(revoke)?;
            // A watch that stands goes on without rights: it has to be opened again to be refused.
            restart_members(lab)?;
            peers::change(lab)
        },
        |lab| lab.etcd()?.ctl(lease_id).map(|_| ()),
    )?;
    host_1_writes(lab)
}

/// On every host the certificates of the old and the new authority.
fn trust_both(lab: &Lab, old: &str) -> Test {
    for host in lab.hosts() {
        let new = lab
            .etcd()?
            .authority()
            .map(|authority| authority.pem().to_owned());
        host.node().write(
            "/run/pki/ca.pem",
            format!("{old}{}", new.unwrap_or_default()),
        )?;
    }
    Ok(())
}

fn authority(lab: &Lab) -> Result<String, LabError> {
    Ok(lab
        .etcd()?
        .authority()
        .map(|authority| authority.pem().to_owned())
        .unwrap_or_default())
}

#[test]
fn certificates_may_be_rotated_and_expire() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    outage(
        "new authority",
        lab,
        |lab| {
            let old = authority(lab)?;
            lab.etcd_mut()?.renew_certificates()?;
            // The servers are trusted, but do not trust the hosts' old certificates.
            trust_both(lab, &old)?;
            (1..=3).try_for_each(|member| lab.etcd_mut()?.kill(member))?;
            (1..=3).try_for_each(|member| lab.etcd_mut()?.start_member(member))?;
            lab.etcd()?.wait_healthy()
        },
        |lab| {
            peers::change(lab)?;
            lab.hosts()
                .iter()
                .try_for_each(|host| lab.etcd()?.install_client(host.node()))
        },
    )?;
    outage(
        "expired certificate",
        lab,
        |lab| {
            let expired = lab
                .etcd()?
                .authority()
                .and_then(|authority| authority.issue_expired("flanneld").ok());
            let expired = expired.expect("a certificate can be made");
            lab.hosts()
                .iter()
                .try_for_each(|host| lab.etcd()?.replace_client(host.node(), &expired))?;
            restart_members(lab)
        },
        |lab| {
            peers::change(lab)?;
            lab.hosts()
                .iter()
                .try_for_each(|host| lab.etcd()?.install_client(host.node()))
        },
    )?;
    Ok(())
}
