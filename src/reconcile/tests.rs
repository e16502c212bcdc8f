//! The loop on a kernel that fails, forgets and is meddled with. Time is virtual.

mod address;
mod log_volume;
mod meddling;
mod prompt;
mod stage;
mod state_file;

use std::path::Path;

use proptest::prelude::*;
use rustix::io::Errno;
use tokio::time::sleep;

use super::resync::GRACE;
use super::*;
use crate::kernel::Mac;
use crate::kernel::fake::{FakeNetlink, Fault, Hearing, World};
use meddling::{Meddling, any_meddling, stateless};
use stage::{
    Stack, Stage, Start, Step, config, home, in_virtual_time, lease, listed, start, well,
    with_daemon,
};

/// Ample for what a notification starts, in virtual time.
const SOON: Duration = Duration::from_millis(100);

/// One life of the daemon, from its start to a moment at which it is killed.
#[derive(Debug, Clone)]
struct Life {
    saved_state: Option<Vec<Lease>>,
    steps: Vec<Step>,
}

fn any_lease() -> impl Strategy<Value = Lease> {
    // No peer is at 192.0.2.1, this host's address: it would not take that back while another lease announces it.
    (1..6_u8, 2..6_u8, 0..3_u8, 1..6_i64)
        .prop_map(|(subnet, ip, mac, created)| lease(subnet, ip, mac, created))
}

fn any_events() -> impl Strategy<Value = Vec<LeaseEvent>> {
    let event = prop_oneof![
        6 => any_lease().prop_map(LeaseEvent::Put),
        2 => any_lease().prop_map(|lease| LeaseEvent::Delete(lease.subnets)),
        2 => any_lease().prop_map(|lease| LeaseEvent::Missing(lease.subnets)),
    ];
    let events = prop::collection::vec(event, 0..5);
    prop_oneof![
        3 => events.clone(),
        1 => prop::collection::vec(any_lease(), 0..5).prop_map(listed),
        1 => Just(vec![LeaseEvent::ListEnd]),
        1 => Just(vec![LeaseEvent::ListStart]),
    ]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let errnos = [
        Errno::PERM,
        Errno::NOBUFS,
        Errno::BUSY,
        Errno::INTR,
        Errno::NODEV,
        Errno::NOMEM,
        Errno::OPNOTSUPP,
    ];
    prop_oneof![
        4 => prop::sample::select(errnos.to_vec()).prop_map(Fault::Errno),
        2 => Just(Fault::Lost),
        1 => Just(Fault::Unsettled),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let hearing = [
        Hearing::Prompt,
        Hearing::Late,
        Hearing::Overrun,
        Hearing::Deaf,
    ];
    prop_oneof![
        4 => any_events().prop_map(Step::Leases),
        4 => any_meddling().prop_map(Step::Meddle),
        3 => (0..12_usize, 1..12_usize, any_fault())
            .prop_map(|(spare, count, fault)| Step::Fail { spare, count, fault }),
        1 => prop::sample::select(hearing.to_vec()).prop_map(Step::Notifications),
        4 => prop::sample::select(&[1, 30, 700, 5_000, 31_000][..]).prop_map(Step::Wait),
    ]
}

fn any_life() -> impl Strategy<Value = Life> {
    let saved_state = prop::option::weighted(0.3, prop::collection::vec(any_lease(), 0..4));
    (saved_state, prop::collection::vec(any_step(), 0..20))
        .prop_map(|(saved_state, steps)| Life { saved_state, steps })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// And nothing is deleted before a list is complete, nothing wanted is taken away, and a kernel that is right is left
    /// alone. Lives end by SIGKILL.
    #[test]
    fn kernel_converges_to_leases_after_any_faults(
        stack in prop::sample::select(&Stack::ALL[..]),
        lives in prop::collection::vec(any_life(), 0..2),
        last in any_life(),
    ) {
        in_virtual_time(async {
            let kernel = FakeNetlink::new();
            for Life { saved_state, steps } in lives {
                with_daemon(&kernel, stack, saved_state, async |stage: &mut Stage| {
                    for step in steps {
                        stage.play(step).await;
                    }
                }).await;
            }
            with_daemon(&kernel, stack, last.saved_state, async |stage: &mut Stage| {
                for step in last.steps {
                    stage.play(step).await;
                }
                stage.calm().await;
                sleep(PERIOD).await;
                stage.assert_right();
                stage.assert_quiet().await;
            }).await;
        });
    }
}

/// Two peers, and a kernel that is right.
async fn wait_until_settled(stage: &mut Stage) {
    stage
        .events(listed([lease(2, 2, 2, 2), lease(3, 3, 3, 3)]))
        .await;
    stage.play(Step::Wait(1_000)).await;
    stage.assert_right();
}

/// Not by the regular look: within a moment, by being told; also when the kernel says no more than that it dropped something.
#[test]
fn meddling_is_noticed() {
    let numbered = (0..14).flat_map(|n| {
        [
            Meddling::Delete(n),
            Meddling::Usurp(n),
            Meddling::Overwrite(n),
        ]
    });
    let all = numbered.chain((0..8).map(Meddling::Add)).chain(stateless());
    let all = all.flat_map(|m| [Hearing::Prompt, Hearing::Overrun].map(|hearing| (m, hearing)));
    for ((meddling, hearing), stack) in
        all.flat_map(|m| [Stack::Both, Stack::Direct, Stack::HostGw].map(|stack| (m, stack)))
    {
        in_virtual_time(with_daemon(
            &FakeNetlink::new(),
            stack,
            None,
            async |stage: &mut Stage| {
                wait_until_settled(stage).await;
                stage.play(Step::Notifications(hearing)).await;
                stage.play(Step::Meddle(meddling)).await;
                sleep(SOON).await;
                stage.play(Step::Notifications(Hearing::Prompt)).await;
                stage.assert_right();
            },
        ));
    }
}

/// Everything that the daemon asks of the kernel on its way, refused or lost, one at a time and from then on for a while.
#[test]
fn every_single_step_may_fail() {
    let faults = [
        Fault::Errno(Errno::NOBUFS),
        Fault::Errno(Errno::BUSY),
        Fault::Lost,
        Fault::Unsettled,
    ];
    for (spare, count, fault) in faults
        .into_iter()
        .flat_map(|f| (0..20).flat_map(move |n| [(n, 1, f), (n, 9, f)]))
    {
        in_virtual_time(with_daemon(
            &FakeNetlink::new(),
            Stack::V4,
            None,
            async |stage: &mut Stage| {
                stage
                    .play(Step::Fail {
                        spare,
                        count,
                        fault,
                    })
                    .await;
                stage
                    .events(listed([lease(2, 2, 2, 2), lease(3, 3, 3, 3)]))
                    .await;
                stage.play(Step::Wait(1)).await;
                stage
                    .events(vec![
                        LeaseEvent::Put(lease(4, 4, 4, 4)),
                        LeaseEvent::Delete(lease(2, 2, 2, 2).subnets),
                    ])
                    .await;
                stage.play(Step::Wait(30_000)).await;
                stage.assert_right();
            },
        ));
    }
}

/// No one else makes the daemon look, and the regular look is far away.
#[test]
fn a_failed_write_is_tried_again_soon() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::V4,
        None,
        async |stage: &mut Stage| {
            wait_until_settled(stage).await;
            for fault in [Fault::Errno(Errno::NOMEM), Fault::Lost] {
                sleep(SOON).await;
                stage
                    .play(Step::Fail {
                        spare: 0,
                        count: 1,
                        fault,
                    })
                    .await;
                stage.events(vec![LeaseEvent::Put(lease(4, 4, 4, 4))]).await;
                sleep(SOON).await;
                sleep(Duration::from_secs(2)).await;
                stage.assert_right();
                stage
                    .events(vec![LeaseEvent::Delete(lease(4, 4, 4, 4).subnets)])
                    .await;
            }
        },
    ));
}

/// The IPv6 device cannot be had for a while: IPv4 peers come, go and are repaired meanwhile.
#[test]
fn a_device_that_cannot_be_had_does_not_hold_up_the_other_one() {
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
        assert!(reconciler.settled);
        kernel.with(|world| {
            world.delete_device(LinkRole::Overlay6);
            Meddling::Delete(1).happen(world);
            // Interfaces, IPv4 device, that again, IPv6 device: then its creation.
            world.fail(4, 1, Fault::Errno(Errno::ADDRINUSE));
        });
        reconciler.resync(&channels.wanted).await;
        assert_eq!((reconciler.failing, reconciler.unusable.len()), (1, 1));
        stage.events(vec![LeaseEvent::Put(lease(3, 3, 3, 3))]).await;
        let second = channels.leases.recv().await.unwrap();
        reconciler.leases(second, &mut channels).await;
        assert_eq!(reconciler.failing, 1, "what cannot be written is not tried");
        let of = |kernel: &FakeNetlink, dev: LinkRole| {
            kernel.with(|world| {
                world
                    .entries()
                    .iter()
                    .filter(|entry| entry.dev() == dev)
                    .count()
            })
        };
        assert_eq!(
            (
                of(&kernel, LinkRole::Overlay),
                of(&kernel, LinkRole::Overlay6)
            ),
            (7, 0)
        );
        reconciler.resync(&channels.wanted).await;
        assert_eq!(
            (reconciler.failing, of(&kernel, LinkRole::Overlay6)),
            (0, 7)
        );
        stage.assert_right();
    });
}

/// Host 2 is directly connected, until it is not, and is again.
#[test]
fn who_is_directly_connected_is_followed() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::Direct,
        None,
        async |stage: &mut Stage| {
            stage
                .events(listed([lease(2, 2, 2, 2), lease(4, 4, 4, 4)]))
                .await;
            stage.play(Step::Wait(1_000)).await;
            let on = |stage: &Stage, dev: LinkRole| {
                let is_there =
                    |entry: &&Entry| entry.dev() == dev && matches!(entry, Entry::Route { .. });
                stage
                    .kernel
                    .with(|world| world.entries().iter().filter(is_there).count())
            };
            for (near, routes) in [(true, (1, 1)), (false, (2, 0)), (true, (1, 1))] {
                stage.play(Step::Meddle(Meddling::Near(near))).await;
                sleep(SOON).await;
                assert_eq!(
                    (on(stage, LinkRole::Overlay), on(stage, LinkRole::Underlay)),
                    routes,
                    "{near}"
                );
            }
            stage.assert_right();
        },
    ));
}

/// The lease of a host of host-gw.
fn host_gw(subnet: u8, ip: u8) -> Lease {
    let mut lease = lease(subnet, ip, 0, subnet.into());
    lease.attrs.backend_type = "host-gw".into();
    lease.attrs.backend_data = None;
    lease
}

fn routes(stage: &Stage, dev: LinkRole) -> usize {
    let is_there = |entry: &&Entry| entry.dev() == dev && matches!(entry, Entry::Route { .. });
    stage
        .kernel
        .with(|world| world.entries().iter().filter(is_there).count())
}

/// Of two vxlan peers one changes to host-gw before this host does, the other one after it.
#[test]
fn device_of_an_earlier_life_goes_with_the_last_vxlan_peer() {
    in_virtual_time(async {
        let kernel = FakeNetlink::new();
        with_daemon(&kernel, Stack::Direct, None, async |stage: &mut Stage| {
            wait_until_settled(stage).await;
            stage.events(vec![LeaseEvent::Put(host_gw(2, 2))]).await;
            stage.play(Step::Wait(1_000)).await;
            stage.assert_right();
            assert_eq!(routes(stage, LinkRole::Underlay), 2);
        })
        .await;
        with_daemon(&kernel, Stack::HostGw, None, async |stage: &mut Stage| {
            stage
                .events(listed([host_gw(2, 2), lease(3, 3, 3, 3)]))
                .await;
            stage.play(Step::Wait(1_000)).await;
            sleep(PERIOD * 3).await;
            let is_there = |stage: &Stage| {
                stage
                    .kernel
                    .with(|world| world.device(LinkRole::Overlay).is_some())
            };
            assert!(is_there(stage), "host 3 still sends there");
            stage.events(vec![LeaseEvent::Put(host_gw(3, 3))]).await;
            sleep(PERIOD * 2).await;
            assert!(!is_there(stage));
            stage.assert_right();
            assert_eq!(routes(stage, LinkRole::Underlay), 2);
            stage.assert_quiet().await;
        })
        .await;
    });
}

/// A link that is down has no connected network. Without a tunnel there is nothing to go over to.
#[test]
fn host_gw_routes_stay_while_no_network_is_connected() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::HostGw,
        None,
        async |stage: &mut Stage| {
            stage.events(listed([host_gw(2, 2), host_gw(4, 4)])).await;
            stage.play(Step::Wait(1_000)).await;
            assert_eq!(
                routes(stage, LinkRole::Underlay),
                1,
                "host 4 is behind a router"
            );
            stage.play(Step::Meddle(Meddling::Near(false))).await;
            sleep(PERIOD).await;
            assert_eq!(routes(stage, LinkRole::Underlay), 1);
            stage.events(vec![LeaseEvent::Put(host_gw(3, 3))]).await;
            sleep(PERIOD).await;
            assert_eq!(
                routes(stage, LinkRole::Underlay),
                1,
                "the kernel would refuse it"
            );
            stage.play(Step::Meddle(Meddling::Near(true))).await;
            sleep(SOON).await;
            assert_eq!(routes(stage, LinkRole::Underlay), 2);
            stage.assert_right();
        },
    ));
}

fn flapping(reconciler: &Reconciler<'_, FakeNetlink>) -> usize {
    reconciler.flapping.objects(Instant::now()).count()
}

#[test]
fn refused_write_is_not_flapping() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            mut reconciler,
            mut channels,
            stage,
            ..
        } = start(&kernel, Stack::V4, &config, None);
        reconciler
            .leases(listed([lease(2, 2, 2, 2)]), &mut channels)
            .await;
        kernel.with(|world| Meddling::Delete(1).happen(world));
        for _ in 0..9 {
            // Interfaces, device, device again, dump: then the write.
            kernel.with(|world| world.fail(4, 1, Fault::Errno(Errno::NOMEM)));
            reconciler.resync(&channels.wanted).await;
            assert_eq!((reconciler.failing, flapping(&reconciler)), (1, 0));
        }
        reconciler.resync(&channels.wanted).await;
        assert_eq!((reconciler.failing, flapping(&reconciler)), (0, 0));
        drop(stage);
    });
}

/// All that was seen is gone, and something has come that was not seen.
#[test]
fn what_was_seen_before_the_start_may_have_changed_since() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            reconciler,
            channels,
            mut stage,
            keepers,
        } = start(&kernel, Stack::V4, &config, None);
        stage.events(listed([lease(2, 2, 2, 2)])).await;
        let stranger = Entry::Neigh {
            dev: LinkRole::Overlay,
            ip: [10, 5, 9, 9].into(),
            mac: Mac([2; 6]),
        };
        kernel
            .with(|world| world.write(&Op::Set(stranger)))
            .unwrap();
        let (seen, mut systemd) = (Some(stage.oracle.entries()), Systemd::default());
        tokio::select! {
            never = reconciler.with_prefetched(seen).run(channels, &mut systemd, Notifier::default()) => match never {},
            never = keepers.run() => match never {},
            () = sleep(SOON) => {}
        }
        stage.assert_right();
    });
}

/// Notifications have arrived since before the kernel was read: one that contradicts is enough.
#[test]
fn what_was_seen_while_listening_is_not_read_again() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            reconciler,
            channels,
            mut stage,
            keepers,
        } = start(&kernel, Stack::V4, &config, None);
        stage.events(listed([lease(2, 2, 2, 2)])).await;
        let entries = stage.oracle.entries();
        kernel.with(|world| {
            entries
                .iter()
                .for_each(|entry| world.write(&Op::Set(*entry)).unwrap());
        });
        let (mut early, mut systemd) = (kernel.clone(), Systemd::default());
        let seen = early.prefetch(&[], &Owned::default()).await;
        let lost = entries
            .iter()
            .find(|entry| matches!(entry, Entry::Fdb { .. }))
            .unwrap();
        let dumps = || kernel.with(|world| world.dumps);
        let disturb = async || {
            sleep(2 * GRACE).await;
            assert_eq!(dumps(), 0);
            kernel
                .with(|world| world.write(&Op::Delete(*lost)))
                .unwrap();
            sleep(SOON).await;
            assert_eq!(dumps(), 1);
        };
        tokio::select! {
            never = reconciler.with_prefetched(seen).run(channels, &mut systemd, Notifier::default()) => match never {},
            never = keepers.run() => match never {},
            () = disturb() => {}
        }
        stage.assert_right();
    });
}

/// Without `keepers` no file is written, as on a disk that hangs.
#[test]
fn resync_after_start_waits_a_second_for_ready() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            reconciler,
            channels,
            mut stage,
            keepers: _files,
        } = start(&kernel, Stack::V4, &config, None);
        stage.events(listed([lease(2, 2, 2, 2)])).await;
        let (seen, mut systemd) = (Some(stage.oracle.entries()), Systemd::default());
        let dumps = async || {
            sleep(GRACE - SOON).await;
            let early = kernel.with(|world| world.dumps);
            sleep(2 * SOON).await;
            (early, kernel.with(|world| world.dumps))
        };
        tokio::select! {
            never = reconciler.with_prefetched(seen).run(channels, &mut systemd, Notifier::default()) => match never {},
            counts = dumps() => assert_eq!(counts, (0, 1)),
        }
    });
}

#[test]
fn new_list_is_not_flapping() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            mut reconciler,
            mut channels,
            stage,
            ..
        } = start(&kernel, Stack::V4, &config, None);
        for n in 0..20 {
            let peers = [lease(2, 2, 2, 2), lease(3, 3, 3, 3)]
                .into_iter()
                .take(1 + n % 2);
            reconciler.leases(listed(peers), &mut channels).await;
            sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(flapping(&reconciler), 0);
        drop(stage);
    });
}

#[test]
fn a_host_without_address_is_looked_at_ever_more_rarely() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::V4,
        None,
        async |stage: &mut Stage| {
            wait_until_settled(stage).await;
            stage.play(Step::Meddle(Meddling::Address(None))).await;
            let before = stage.kernel.with(|world| world.dumps);
            sleep(PERIOD * 4).await;
            let resyncs = stage.kernel.with(|world| world.dumps) - before;
            assert!(
                (4..20).contains(&resyncs),
                "{resyncs} resyncs in two minutes"
            );
        },
    ));
}

#[test]
fn listening_is_tried_again() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::V4,
        None,
        async |stage: &mut Stage| {
            // The first resync: interfaces, device, device again, dump, own address. The second: all but the last, six entries.
            stage
                .play(Step::Fail {
                    spare: 15,
                    count: 1,
                    fault: Fault::Errno(Errno::NOMEM),
                })
                .await;
            wait_until_settled(stage).await;
            sleep(PERIOD * 2).await;
            stage.play(Step::Meddle(Meddling::Delete(1))).await;
            sleep(SOON).await;
            stage.assert_right();
        },
    ));
}

#[test]
fn a_file_that_cannot_be_written_holds_nothing_up() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::V4,
        None,
        async |stage: &mut Stage| {
            wait_until_settled(stage).await;
            std::fs::remove_file(&stage.subnet_file).unwrap();
            std::fs::create_dir(&stage.subnet_file).unwrap();
            stage.kernel.with(|world| world.set_underlay_mtu(1400));
            sleep(SOON).await;
            assert_eq!(
                stage
                    .kernel
                    .with(|world| world.device(LinkRole::Overlay).map(|device| device.mtu)),
                Some(1350)
            );
        },
    ));
}

#[test]
fn removed_subnet_file_is_written_again_and_a_changed_one_kept() {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::V4,
        None,
        async |stage: &mut Stage| {
            wait_until_settled(stage).await;
            let file = stage.subnet_file.clone();
            let wanted = std::fs::read(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(std::fs::read(&file).unwrap(), wanted);
            std::fs::write(&file, "mine").unwrap();
            sleep(PERIOD).await;
            assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        },
    ));
}

/// A start whose firewall comes when the story says so; whether `subnet.env` is there, and READY said.
fn start_with(
    story: impl AsyncFnOnce(
        &mut Stage,
        &Path,
        &watch::Sender<Option<firewall::State>>,
        &dyn Fn() -> (bool, bool),
    ),
) {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            reconciler,
            keepers,
            channels,
            mut stage,
        } = start(&kernel, Stack::V4, &config, None);
        let (firewall, state) = watch::channel(None);
        let channels = Channels {
            firewall: state,
            ..channels
        };
        stage.events(listed([lease(2, 2, 2, 2)])).await;
        let mut systemd = Systemd::default();
        let told = systemd.listen();
        let is_told = || (config.subnet_file.is_file(), told.borrow().ready);
        tokio::select! {
            never = reconciler.run(channels, &mut systemd, Notifier::default()) => match never {},
            never = keepers.run() => match never {},
            () = story(&mut stage, &config.subnet_file, &firewall, &is_told) => {}
        }
    });
}

/// While the firewall's programs take their time the peers are programmed, and kept, all the same.
#[test]
fn subnet_env_waits_for_the_firewall() {
    start_with(async |stage, _, firewall, is_told| {
        sleep(SOON).await;
        stage.assert_right();
        stage.play(Step::Meddle(Meddling::Delete(1))).await;
        sleep(SOON).await;
        stage.assert_right();
        sleep(PERIOD).await;
        assert_eq!(is_told(), (false, false));
        firewall.send_replace(Some(well()));
        sleep(SOON).await;
        assert_eq!(is_told(), (true, true));
    });
}

#[test]
fn ready_waits_for_a_file_that_cannot_be_written() {
    start_with(async |stage, file, firewall, is_told| {
        std::fs::create_dir(file).unwrap();
        firewall.send_replace(Some(well()));
        sleep(SOON).await;
        stage.assert_right();
        assert_eq!(is_told(), (false, false));
        std::fs::remove_dir(file).unwrap();
        sleep(PERIOD).await;
        assert_eq!(is_told(), (true, true));
    });
}
