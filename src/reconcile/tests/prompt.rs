//! Repairs are prompt, however often something is disturbed, and resyncs happen only where something may be wrong.

use super::*;

/// Repairs after which an object counts as flapping.
const MANY: usize = 9;

/// Disturbs the host again and again, each time a second after the last. Expects every repair within a moment, and returns
/// the status line at that moment.
fn disturb(stack: Stack, disturbance: impl Fn(&mut World)) -> String {
    let mut status = String::new();
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            reconciler,
            keepers,
            channels,
            mut stage,
        } = start(&kernel, stack, &config, None);
        let mut systemd = Systemd::default();
        let told = systemd.listen();
        let story = async {
            wait_until_settled(&mut stage).await;
            for _ in 0..MANY {
                stage.kernel.with(&disturbance);
                sleep(SOON).await;
                stage.assert_right();
                sleep(Duration::from_secs(1)).await;
            }
            told.borrow().status.clone()
        };
        tokio::select! {
            never = reconciler.run(channels, &mut systemd, Notifier::default()) => match never {},
            never = keepers.run() => match never {},
            shown = story => status = shown,
        }
    });
    status
}

fn meddle(stack: Stack, meddling: Meddling) -> String {
    disturb(stack, move |world| meddling.happen(world))
}

#[test]
fn repeated_changes_of_a_device_are_repaired_at_once() {
    for meddling in stateless() {
        let status = meddle(Stack::Both, meddling);
        // A device that is up again by the time of the resync has not been modified: the kernel dropped its entries.
        let flapping = if matches!(meddling, Meddling::Flap(_)) {
            0
        } else {
            1
        };
        assert_eq!(
            status.matches("1 objects flapping (see log)").count(),
            flapping,
            "{meddling:?}: {status}"
        );
    }
}

#[test]
fn repeated_deletions_of_an_entry_are_repaired_at_once() {
    for n in 0..7 {
        let status = meddle(Stack::V4, Meddling::Delete(n));
        assert!(
            status.contains("1 objects flapping (see log)"),
            "{n}: {status}"
        );
    }
}

/// The kernel drops the direct routes with the link: no one else does.
#[test]
fn underlay_flaps_are_repaired_at_once_and_not_flapping() {
    let status = meddle(Stack::Direct, Meddling::FlapUnderlay);
    assert!(!status.contains("see log"), "{status}");
}

#[test]
fn own_changes_of_a_device_are_not_flapping() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            reconciler,
            keepers,
            channels,
            mut stage,
        } = start(&kernel, Stack::V4, &config, None);
        let mut systemd = Systemd::default();
        let told = systemd.listen();
        let story = async {
            wait_until_settled(&mut stage).await;
            for mtu in [1400, 1500].into_iter().cycle().take(MANY) {
                stage.kernel.with(|world| world.set_underlay_mtu(mtu));
                sleep(SOON).await;
                let device = stage
                    .kernel
                    .with(|world| world.device(LinkRole::Overlay).map(|device| device.mtu));
                assert_eq!(device, Some(mtu - 50));
            }
            assert!(
                !told.borrow().status.contains("see log"),
                "{:?}",
                told.borrow().status
            );
        };
        tokio::select! {
            never = reconciler.run(channels, &mut systemd, Notifier::default()) => match never {},
            never = keepers.run() => match never {},
            () = story => {}
        }
    });
}

#[test]
fn removed_foreign_links_cause_no_resync() {
    for stack in Stack::ALL {
        in_virtual_time(with_daemon(
            &FakeNetlink::new(),
            stack,
            None,
            async |stage: &mut Stage| {
                wait_until_settled(stage).await;
                let before = stage.kernel.with(|world| world.dumps);
                for index in 0..20 {
                    stage
                        .kernel
                        .with(|world| world.remove_foreign_link(100 + index));
                    sleep(SOON).await;
                }
                assert_eq!(stage.kernel.with(|world| world.dumps), before);
            },
        ));
    }
}

/// The entries that lead to host 2, and how many of them are on the underlay.
fn to_host_2(stage: &Stage) -> (usize, usize) {
    let subnet: IpAddr = [10, 5, 2, 0].into();
    let concerns = |entry: &&Entry| match entry {
        Entry::Route { dst, .. } => dst.ip() == subnet,
        Entry::Neigh { ip, .. } => *ip == subnet,
        Entry::Fdb { mac, .. } => mac.0 == [10, 0, 0, 0, 0, 2],
        Entry::Addr { .. } => false,
    };
    stage.kernel.with(|world| {
        let (direct, tunnel): (Vec<&Entry>, Vec<&Entry>) = world
            .entries()
            .iter()
            .filter(concerns)
            .partition(|entry| entry.dev() == LinkRole::Underlay);
        (tunnel.len(), direct.len())
    })
}

/// As long as the neighborhood is the same; then the direct route is tried again.
#[test]
fn refused_direct_route_falls_back_to_the_tunnel() {
    fn is_to_host_2(entry: &Entry) -> bool {
        matches!(entry, Entry::Route { dev: LinkRole::Underlay, gateway: Some(via), .. } if *via == IpAddr::from([192, 0, 2, 2]))
    }
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::Direct,
        None,
        async |stage: &mut Stage| {
            stage
                .kernel
                .with(|world| world.refuses = Some((is_to_host_2, Errno::NETUNREACH)));
            stage
                .events(listed([lease(2, 2, 2, 2), lease(3, 3, 3, 3)]))
                .await;
            sleep(SOON).await;
            assert_eq!(to_host_2(stage), (3, 0));
            // Whatever is tried later: the tunnel stays.
            let is_tunnel = |entry: &&Entry| entry.dev() == LinkRole::Overlay;
            stage.kernel.with(|world| {
                world.sacred = world.entries().iter().filter(is_tunnel).copied().collect()
            });
            stage.play(Step::Meddle(Meddling::FlapUnderlay)).await;
            sleep(SOON).await;
            assert_eq!(to_host_2(stage), (3, 0));
            let writes = stage.kernel.with(|world| world.writes);
            sleep(PERIOD * 2).await;
            assert_eq!(
                stage.kernel.with(|world| world.writes),
                writes,
                "nothing is left to write"
            );
            stage
                .kernel
                .with(|world| (world.refuses, world.sacred) = (None, BTreeSet::new()));
            stage.play(Step::Meddle(Meddling::Near(false))).await;
            sleep(SOON).await;
            stage.play(Step::Meddle(Meddling::Near(true))).await;
            sleep(SOON).await;
            assert_eq!(to_host_2(stage), (0, 1));
            stage.assert_right();
        },
    ));
}

/// A start is not done before the host has its own address on the overlay.
#[test]
fn ready_waits_for_an_own_address_that_is_refused() {
    start_with(async |stage, _, firewall, is_told| {
        stage.kernel.with(|world| {
            world.refuses = Some((|entry| matches!(entry, Entry::Addr { .. }), Errno::ACCESS));
            let own = world
                .entries()
                .iter()
                .find(|entry| matches!(entry, Entry::Addr { .. }))
                .copied();
            own.into_iter()
                .for_each(|own| world.write(&Op::Delete(own)).unwrap());
        });
        // Where it was deleted before notifications arrive, the resync after the start finds it.
        sleep(GRACE + SOON).await;
        firewall.send_replace(Some(well()));
        sleep(PERIOD).await;
        assert!(!is_told().1);
        stage.kernel.with(|world| world.refuses = None);
        // The attempts that failed may have made the backoff as long as a period.
        sleep(PERIOD * 2).await;
        assert_eq!(is_told(), (true, true));
        stage.assert_right();
    });
}

/// With so many entries that a comparison takes a quarter of a second. Devices are still looked at every period.
#[test]
fn long_comparisons_are_rare_but_for_what_looks_wrong() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            mut reconciler,
            mut channels,
            mut stage,
            ..
        } = start(&kernel, Stack::Both, &config, None);
        stage.events(listed([lease(2, 2, 2, 2)])).await;
        let first = channels.leases.recv().await.unwrap();
        reconciler.leases(first, &mut channels).await;
        // The one that follows a start.
        reconciler.resync_as_due(&channels.wanted).await;
        let begin = Instant::now();
        sleep(Duration::from_millis(250)).await;
        reconciler.schedule.compared(begin, Instant::now());
        kernel.with(|world| world.set_hearing(Hearing::Deaf));
        let dumps = || kernel.with(|world| world.dumps);
        let before = dumps();
        for _ in 0..8 {
            sleep(PERIOD).await;
            reconciler.resync_as_due(&channels.wanted).await;
            assert_eq!(dumps(), before);
        }
        sleep(PERIOD).await;
        reconciler.resync_as_due(&channels.wanted).await;
        assert_eq!(dumps(), before + 1, "a thousandth of the time is over");
        let begin = Instant::now();
        sleep(Duration::from_millis(250)).await;
        reconciler.schedule.compared(begin, Instant::now());
        kernel.with(|world| {
            Meddling::Delete(1).happen(world);
            world.delete_device(LinkRole::Overlay6);
        });
        sleep(PERIOD).await;
        reconciler.resync_as_due(&channels.wanted).await;
        assert_eq!(dumps(), before + 2, "a device has changed");
        stage.assert_right();
    });
}
