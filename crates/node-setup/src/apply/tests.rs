//! Random trees, plans, failures and crashes: what is left is what was there, or what was planned, and nothing between.

mod stage;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use self::stage::{Faulty, Node, Prior, Trouble, plan, plan_of, plans, priors, settled};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn uninstall_leaves_what_was_there(prior in priors(), plans in plans()) {
        let node = Node::new(&prior);
        let before = node.snapshot();
        for plan in &plans {
            node.session().apply(plan, true).unwrap();
        }
        let report = node.session().uninstall(false).unwrap();
        prop_assert!(report.kept.is_empty());
        prop_assert_eq!(node.everything(), before);
    }

    #[test]
    fn rollback_goes_back_apply_by_apply(prior in priors(), plans in plans()) {
        let node = Node::new(&prior);
        let mut states = vec![node.snapshot()];
        for plan in &plans {
            node.session().apply(plan, true).unwrap();
            states.push(node.snapshot());
        }
        while node.session().rollback(false).is_ok() {
            // An apply that changed nothing is no apply.
            prop_assert!(states.contains(&node.snapshot()));
        }
        prop_assert_eq!(&node.everything(), &states[0]);
    }

    #[test]
    fn a_second_apply_touches_nothing(prior in priors(), plans in plans()) {
        let node = Node::new(&prior);
        node.session().apply(&plans[0], true).unwrap();
        let before = node.everything();
        let report = node.session().apply(&plans[0], false).unwrap();
        prop_assert_eq!(report.changed().count(), 0);
        prop_assert_eq!(node.everything(), before);
        prop_assert!(settled(&node, &plans[0]));
    }

    #[test]
    fn a_failing_step_changes_nothing(prior in priors(), plans in plans(), at in 0u32..60) {
        let node = Node::new(&prior);
        node.session().apply(&plans[0], true).unwrap();
        let before = node.snapshot();
        let faulty = Faulty::new(&node.root, at, Trouble::Once);
        let done = faulty.session().apply(&plans[1], true);
        match done {
            Ok(_) => {
                // What is left of the transaction itself is the next run's.
                drop(node.session());
                prop_assert!(settled(&node, &plans[1]));
            }
            Err(error) => {
                prop_assert!(!matches!(error, ApplyError::Aborted(Aborted::Stuck { .. })), "{error}");
                prop_assert_eq!(node.snapshot(), before);
            }
        }
        // Nothing is left that the next run would stumble over.
        node.session().apply(&plans[1], true).unwrap();
        prop_assert!(settled(&node, &plans[1]));
    }

    #[test]
    fn a_killed_run_is_taken_back_or_finished(
        prior in priors(), plans in plans(), at in 0u32..60, again in 0u32..40, verb in 0..3
    ) {
        let node = Node::new(&prior);
        node.session().apply(&plans[0], true).unwrap();
        let before = node.snapshot();
        let faulty = Faulty::new(&node.root, at, Trouble::ForGood);
        let session = faulty.session();
        let _ = match verb {
            0 => session.apply(&plans[1], true),
            1 => session.rollback(true),
            _ => session.uninstall(true),
        };
        // The next run is killed as well, and the one after it has to cope.
        let _ = transaction::recover(&Faulty::new(&node.root, again, Trouble::ForGood));
        let recovered = node.session();
        prop_assert!(recovered.recovered().is_none_or(<[_]>::is_empty));
        drop(recovered);
        let after = match verb {
            0 => settled(&node, &plans[1]),
            1 => node.holds(&prior),
            _ => node.holds(&prior),
        };
        prop_assert!(node.snapshot() == before || after);
    }
}

#[test]
fn every_step_can_fail_and_every_step_can_be_the_last() {
    let prior = Prior::of(&[
        ("/etc/b/two.conf", "theirs", 0o600),
        ("/etc/keep", "k", 0o644),
    ]);
    let (old, new) = (
        plan(&["/etc/a/one.service", "/etc/c/three.conf"], "1"),
        plan(&["/etc/a/one.service", "/etc/b/two.conf"], "2"),
    );
    for trouble in [Trouble::Once, Trouble::ForGood] {
        let mut step = 0;
        loop {
            let node = Node::new(&prior);
            node.session().apply(&old, true).unwrap();
            let before = node.snapshot();
            let faulty = Faulty::new(&node.root, step, trouble);
            let done = faulty.session().apply(&new, true).is_ok();
            let fired = faulty.fired();
            drop(node.session());
            assert!(
                if settled(&node, &new) {
                    true
                } else {
                    !done && node.snapshot() == before
                },
                "step {step}"
            );
            assert_eq!(node.strays(), [""; 0], "step {step}");
            if !fired {
                assert!(step > 10, "the faults must have hit something");
                break;
            }
            step += 1;
        }
    }
}

#[test]
fn foreign_edited_and_odd_files_are_left_alone() {
    let prior = Prior::of(&[("/etc/b/two.conf", "theirs", 0o640)]);
    let node = Node::new(&prior);
    let wanted = plan(&["/etc/a/one.service", "/etc/b/two.conf"], "x");
    let before = node.snapshot();
    let error = node
        .session()
        .apply(&wanted, false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/etc/b/two.conf: node-setup did not write it"),
        "{error}"
    );
    assert_eq!(node.everything(), before, "not even a store");

    node.session().apply(&wanted, true).unwrap();
    let unit = node.path("/etc/a/one.service");
    let edited = fs::read_to_string(&unit).unwrap() + "# mine\n";
    fs::write(&unit, &edited).unwrap();
    let error = node
        .session()
        .apply(&wanted, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("one.service: it was edited"), "{error}");
    assert!(node.session().rollback(false).is_err());

    let report = node.session().uninstall(false).unwrap();
    assert_eq!(report.kept, [Path::new("/etc/a/one.service")]);
    assert_eq!(fs::read_to_string(&unit).unwrap(), edited);
    assert_eq!(
        fs::read_to_string(node.path("/etc/b/two.conf")).unwrap(),
        "theirs"
    );
    node.session().uninstall(true).unwrap();
    assert_eq!(node.everything(), before);
}

#[test]
fn links_are_never_followed_nor_replaced() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("shadow");
    fs::write(&victim, "secret").unwrap();
    let wanted = plan(&["/etc/a/one.service"], "x");
    let unit = Prior::default();

    let node = Node::new(&unit);
    fs::create_dir_all(node.path("/etc/a")).unwrap();
    symlink(&victim, node.path("/etc/a/one.service")).unwrap();
    let error = node.session().apply(&wanted, true).unwrap_err().to_string();
    assert!(error.contains("a symbolic link to"), "{error}");

    // A masked unit says how to unmask it.
    fs::remove_file(node.path("/etc/a/one.service")).unwrap();
    symlink("/dev/null", node.path("/etc/a/one.service")).unwrap();
    let error = node.session().apply(&wanted, true).unwrap_err().to_string();
    assert!(error.contains("systemctl unmask"), "{error}");

    // A directory on the way.
    fs::remove_file(node.path("/etc/a/one.service")).unwrap();
    fs::remove_dir(node.path("/etc/a")).unwrap();
    symlink(outside.path(), node.path("/etc/a")).unwrap();
    let error = node.session().apply(&wanted, true).unwrap_err().to_string();
    assert!(
        error.contains("/etc/a: it is a symbolic link to"),
        "{error}"
    );

    // A trap where the new content is staged.
    fs::remove_file(node.path("/etc/a")).unwrap();
    fs::create_dir(node.path("/etc/a")).unwrap();
    symlink(&victim, node.path("/etc/a/.rflannel-one.service")).unwrap();
    node.session().apply(&wanted, false).unwrap();
    assert!(settled(&node, &wanted));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret");

    // And the store itself.
    let node = Node::new(&unit);
    fs::remove_dir(node.path("/var/lib")).unwrap();
    symlink(outside.path(), node.path("/var/lib")).unwrap();
    assert!(
        Session::open(&node.root)
            .unwrap_err()
            .to_string()
            .contains("/var/lib: it is a symbolic link to")
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn the_second_of_two_runs_is_refused() {
    let node = Node::new(&Prior::default());
    let first = node.session();
    let error = Session::open(&node.root).unwrap_err();
    assert!(error.to_string().contains("another node-setup"), "{error}");
    drop(first);
    drop(node.session());
    assert!(
        !node.path(store::STATE).exists(),
        "a run that did nothing leaves nothing"
    );
}

#[test]
fn what_a_plan_no_longer_names_becomes_what_it_was() {
    let node = Node::new(&Prior::of(&[("/etc/b/two.conf", "theirs", 0o600)]));
    node.session()
        .apply(&plan(&["/etc/a/one.service", "/etc/b/two.conf"], "1"), true)
        .unwrap();
    let report = node
        .session()
        .apply(&plan(&["/etc/c/three.conf"], "1"), false)
        .unwrap();
    let fate = |path: &str| {
        report
            .fates
            .iter()
            .find(|(one, _)| one == Path::new(path))
            .map(|(_, fate)| *fate)
    };
    assert_eq!(fate("/etc/a/one.service"), Some(Fate::Removed));
    assert_eq!(fate("/etc/b/two.conf"), Some(Fate::Restored));
    assert!(!node.path("/etc/a").exists());
    let (text, mode) = (
        fs::read_to_string(node.path("/etc/b/two.conf")).unwrap(),
        fs::metadata(node.path("/etc/b/two.conf")).unwrap(),
    );
    assert_eq!(
        (text.as_str(), mode.permissions().mode() & 0o777),
        ("theirs", 0o600)
    );
}

#[test]
fn a_merge_is_only_written_over_what_it_was_made_from() {
    let node = Node::new(&Prior::of(&[("/etc/docker/daemon.json", "{}\n", 0o644)]));
    let merged = |base: &str| {
        let kind = crate::FileKind::Merged {
            base: Some(base.into()),
        };
        plan_of(vec![stage::file(
            "/etc/docker/daemon.json",
            "{\"mtu\": 1}\n",
            kind,
        )])
    };
    let error = node
        .session()
        .apply(&merged("{ }\n"), true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has changed since the plan was made"),
        "{error}"
    );
    node.session().apply(&merged("{}\n"), false).unwrap();
    // Merging again what has been merged, and edited since, is no edit by node-setup.
    fs::write(
        node.path("/etc/docker/daemon.json"),
        "{\"mtu\": 1, \"debug\": true}\n",
    )
    .unwrap();
    node.session()
        .apply(&merged("{\"mtu\": 1, \"debug\": true}\n"), false)
        .unwrap();
    node.session().rollback(false).unwrap();
    assert_eq!(
        fs::read_to_string(node.path("/etc/docker/daemon.json")).unwrap(),
        "{\"mtu\": 1, \"debug\": true}\n"
    );
}

#[test]
fn a_lost_ledger_is_made_up_for_by_markers() {
    let node = Node::new(&Prior::default());
    let wanted = plan(&["/etc/a/one.service"], "1");
    node.session().apply(&wanted, false).unwrap();
    fs::remove_dir_all(node.path(store::STATE)).unwrap();
    node.session()
        .apply(&plan(&["/etc/a/one.service"], "2"), false)
        .unwrap();
    node.session().uninstall(false).unwrap();
    assert!(!node.path("/etc/a/one.service").exists());
}

#[test]
fn a_damaged_store_is_named_and_nothing_is_touched() {
    let node = Node::new(&Prior::default());
    let wanted = plan(&["/etc/a/one.service"], "1");
    node.session().apply(&wanted, false).unwrap();
    fs::write(node.path(store::STATE).join("ledger.json"), "{").unwrap();
    let before = node.everything();
    let error = Session::open(&node.root).unwrap_err().to_string();
    assert!(
        error.contains("ledger.json") && error.contains("move the file elsewhere"),
        "{error}"
    );
    assert_eq!(node.everything(), before);
}

#[test]
fn the_store_is_for_root_alone() {
    let node = Node::new(&Prior::of(&[("/etc/b/two.conf", "password", 0o600)]));
    node.session()
        .apply(&plan(&["/etc/b/two.conf"], "1"), true)
        .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = node.path(store::STATE);
    assert_eq!(mode(&state), 0o700);
    for entry in fs::read_dir(state.join("objects")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}
