//! How the underlay's addresses and MTU are followed. Time is virtual.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use super::stage::{
    Stack, Stage, Start, config, home, in_virtual_time, lease, listed, start, well, with_daemon,
};
use super::{SOON, wait_until_settled};
use crate::kernel::LinkRole;
use crate::kernel::fake::{FakeNetlink, Fault};
use crate::subnet::LeaseEvent;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const NEW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Where packets of the tunnel leave from.
fn local(stage: &Stage) -> Option<IpAddr> {
    stage.kernel.with(|world| {
        world
            .device(LinkRole::Overlay)
            .and_then(|device| device.vxlan.as_ref()?.local)
    })
}

async fn becomes(stage: &Stage, addresses: &[Ipv4Addr], wait: Duration) -> Option<IpAddr> {
    stage.kernel.with(|world| world.set_addresses(addresses));
    sleep(wait).await;
    local(stage)
}

fn with_host(story: impl AsyncFnOnce(&mut Stage)) {
    in_virtual_time(with_daemon(
        &FakeNetlink::new(),
        Stack::V4,
        None,
        async |stage: &mut Stage| {
            wait_until_settled(stage).await;
            assert_eq!(
                becomes(stage, &[VIRTUAL, OWN], SOON).await,
                Some(OWN.into()),
                "a second address has come"
            );
            story(stage).await;
        },
    ));
}

#[test]
fn address_that_is_gone_is_waited_for_five_seconds() {
    with_host(async |stage: &mut Stage| {
        assert_eq!(
            becomes(stage, &[VIRTUAL], Duration::from_millis(4_900)).await,
            Some(OWN.into())
        );
        sleep(Duration::from_millis(200)).await;
        assert_eq!(local(stage), Some(VIRTUAL.into()));
        assert_eq!(
            becomes(stage, &[VIRTUAL, OWN], SOON).await,
            Some(OWN.into()),
            "it has returned"
        );
    });
}

#[test]
fn each_loss_restarts_the_wait() {
    with_host(async |stage: &mut Stage| {
        for _ in 0..3 {
            assert_eq!(
                becomes(stage, &[VIRTUAL], Duration::from_secs(3)).await,
                Some(OWN.into())
            );
            assert_eq!(
                becomes(stage, &[VIRTUAL, OWN], Duration::from_secs(10)).await,
                Some(OWN.into())
            );
        }
    });
}

#[test]
fn new_address_is_followed_at_once() {
    with_host(async |stage: &mut Stage| {
        assert_eq!(
            becomes(stage, &[VIRTUAL, NEW], SOON).await,
            Some(NEW.into())
        );
        assert_eq!(
            becomes(stage, &[VIRTUAL, OWN, NEW], Duration::from_secs(60)).await,
            Some(NEW.into())
        );
    });
}

/// Another host's lease announces the only address that is left.
#[test]
fn address_of_another_lease_is_not_taken() {
    with_host(async |stage: &mut Stage| {
        stage.events(listed([lease(2, 200, 2, 2)])).await;
        assert_eq!(
            becomes(stage, &[VIRTUAL], Duration::from_secs(60)).await,
            Some(OWN.into())
        );
        stage.events(listed([])).await;
        sleep(Duration::from_secs(31)).await;
        assert_eq!(local(stage), Some(VIRTUAL.into()), "it is free now");
    });
}

/// The key of the lease that announces it goes, and with that the address is free, before the grace period of the peer ends.
#[test]
fn address_of_a_deleted_lease_is_taken_at_once() {
    with_host(async |stage: &mut Stage| {
        stage.events(listed([lease(2, 200, 2, 2)])).await;
        assert_eq!(
            becomes(stage, &[VIRTUAL], Duration::from_secs(60)).await,
            Some(OWN.into())
        );
        stage
            .events(vec![LeaseEvent::Missing(lease(2, 200, 2, 2).subnets)])
            .await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(local(stage), Some(VIRTUAL.into()));
    });
}

/// What this host does on account of a change of its own underlay is no repair, however often, and `subnet.env` follows it.
#[test]
fn adaptation_to_the_underlay_is_no_repair() {
    in_virtual_time(async {
        let (kernel, home) = (FakeNetlink::new(), home());
        let config = config(home.path());
        let Start {
            mut reconciler,
            keepers,
            mut channels,
            stage,
        } = start(&kernel, Stack::V4, &config, None);
        let story = async {
            reconciler
                .leases(listed([lease(2, 2, 2, 2)]), &mut channels)
                .await;
            let mtu = |kernel: &FakeNetlink| {
                kernel.with(|world| world.device(LinkRole::Overlay).map(|device| device.mtu))
            };
            reconciler.firewall = Some(well());
            for now in (1400..).take(9) {
                kernel.with(|world| world.set_underlay_mtu(now));
                // Interfaces, device, then its repair.
                kernel.with(|world| world.fail(2, 1, Fault::Errno(Errno::NOMEM)));
                let before = reconciler.announced;
                reconciler.resync(&channels.wanted).await;
                assert_eq!(
                    (reconciler.failing, mtu(&kernel) == Some(now - 50)),
                    (1, false)
                );
                assert_eq!(reconciler.announced, before, "not before the device");
                reconciler.resync(&channels.wanted).await;
                assert_eq!((reconciler.failing, mtu(&kernel)), (0, Some(now - 50)));
                while !reconciler.files.is_announced() {
                    reconciler.files.changed().await;
                }
                let text = std::fs::read_to_string(&config.subnet_file).unwrap();
                assert!(
                    text.contains(&format!("FLANNEL_MTU={}", now - 50)),
                    "{text}"
                );
            }
            assert_eq!(
                (
                    reconciler.stats.counts.repairs.device,
                    reconciler.flapping.objects(Instant::now()).count()
                ),
                (0, 0)
            );
        };
        tokio::select! {
            never = keepers.run() => match never {},
            () = story => {}
        }
        drop(stage);
    });
}
