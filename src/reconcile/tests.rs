//! The loop on a kernel that fails, forgets and is meddled with: whatever happened, once it stops the kernel holds what the
//! leases say. Time is virtual.

use proptest::prelude::*;
use rustix::io::Errno;
use tokio::time::sleep;

use super::*;
use crate::config::EtcdConfig;
use crate::kernel::fake::{FakeNetlink, Fault, Hearing, World};
use crate::kernel::{Dev, Mac};
use crate::subnet::NetworkConfig;
use std::time::Duration;

/// The longest pause between two repairs of one thing, and a moment.
const QUARREL: Duration = Duration::from_secs(61);
/// Ample for what a notification starts, in virtual time.
const SOON: Duration = Duration::from_millis(100);

fn config() -> Config {
    Config {
        etcd: EtcdConfig {
            endpoints: Vec::new(),
            prefix: String::new(),
            ca_file: None,
            client_pair: None,
            login: None,
            renew_margin: Duration::ZERO,
        },
        ifaces: vec!["eth0".into()],
        public_ip: None,
        subnet_file: "unused".into(),
        docker_opts: None,
        state_file: None,
    }
}

fn setup() -> Setup {
    let network = NetworkConfig::parse(br#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap();
    Setup { network, ifaces: config().ifaces, public_ip: None, machine: "me".into() }
}

fn lease(subnet: u8, ip: u8, mac: u8, created: i64) -> Lease {
    let value = format!(
        r#"{{"PublicIP":"192.0.2.{ip}","BackendType":"vxlan","BackendData":{{"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}}}"#
    );
    let attrs = LeaseAttrs::decode(value.as_bytes()).unwrap();
    let subnets = ipnetwork::Ipv4Network::new([10, 5, subnet, 0].into(), 24).unwrap().into();
    Lease { subnets, attrs, created, modified: created, grant: None }
}

fn listed(leases: impl IntoIterator<Item = Lease>) -> Vec<LeaseEvent> {
    let puts = leases.into_iter().map(LeaseEvent::Put);
    std::iter::once(LeaseEvent::Listing).chain(puts).chain([LeaseEvent::Listed]).collect()
}

/// What somebody else does. Numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
enum Meddling {
    Delete(usize),
    Usurp(usize),
    /// A write of another value into a slot that is there.
    Overwrite(usize),
    Add(u8),
    Down,
    Flap,
    Mac,
    Mtu,
    Learning,
    DeleteDevice,
    ForeignDevice,
    Address(Option<u8>),
}

impl Meddling {
    fn happen(self, world: &mut World) {
        match self {
            Meddling::Delete(n) => nth(world, n).into_iter().for_each(|item| write(world, Op::Delete(item))),
            Meddling::Usurp(n) => nth(world, n).iter().for_each(|item| world.usurp(item)),
            Meddling::Overwrite(n) => {
                nth(world, n).into_iter().for_each(|item| write(world, Op::Set(other(item))))
            }
            Meddling::Add(n) => write(world, Op::Set(foreign(n))),
            Meddling::Down => world.change_device(|link| link.up = false),
            Meddling::Flap => {
                [false, true].into_iter().for_each(|up| world.change_device(|link| link.up = up))
            }
            Meddling::Mac => world.change_device(|link| link.mac = Some(Mac([2; 6]))),
            Meddling::Mtu => world.change_device(|link| link.mtu = 1300),
            Meddling::Learning => {
                world.change_device(|link| link.vxlan.iter_mut().for_each(|vxlan| vxlan.learning = true));
            }
            Meddling::DeleteDevice => world.delete_device(),
            Meddling::ForeignDevice => world.change_device(|link| link.vxlan = None),
            Meddling::Address(last) => world.set_address(last.map(|last| [192, 0, 2, last].into())),
        }
    }
}

fn nth(world: &World, n: usize) -> Option<Item> {
    world.items().iter().nth(n % world.items().len().max(1)).copied()
}

/// By somebody else. What the kernel refuses does not happen.
fn write(world: &mut World, op: Op) {
    let _ = world.write(&op);
}

/// Another value in the same slot; where there is none, another item.
fn other(item: Item) -> Item {
    match item {
        Item::Addr { dev, .. } => Item::Addr { dev, net: "10.5.77.0/24".parse().unwrap() },
        Item::Neigh { dev, ip, .. } => Item::Neigh { dev, ip, mac: Mac([6; 6]) },
        Item::Fdb { dev, mac, port, vni, .. } => {
            Item::Fdb { dev, mac, dst: [192, 0, 2, 99].into(), port, vni }
        }
        Item::Route { dst, metric, dev, onlink, protocol, .. } => {
            Item::Route { dst, metric, dev, gateway: Some([10, 5, 99, 0].into()), onlink, protocol }
        }
    }
}

fn foreign(n: u8) -> Item {
    let dev = Dev::Overlay;
    let ip = std::net::IpAddr::from([10, 5, n, 0]);
    match n % 4 {
        0 => Item::Addr { dev, net: ip.into() },
        1 => Item::Neigh { dev, ip, mac: Mac([6; 6]) },
        2 => Item::Fdb { dev, mac: Mac([6, 6, 6, 6, 6, n]), dst: ip, port: 0, vni: 0 },
        _ => Item::Route { dst: ip.into(), metric: 7, dev, gateway: Some(ip), onlink: true, protocol: 3 },
    }
}

#[derive(Debug, Clone)]
enum Step {
    Leases(Vec<LeaseEvent>),
    Meddle(Meddling),
    Fail { spare: usize, count: usize, fault: Fault },
    Hear(Hearing),
    Wait(u64),
}

/// One life of the daemon, from its start to a moment at which it is killed.
#[derive(Debug, Clone)]
struct Life {
    remembered: Option<Vec<Lease>>,
    steps: Vec<Step>,
}

/// A running daemon with the world around it.
struct Stage {
    kernel: FakeNetlink,
    survey: Survey,
    /// The wish, arrived at beside the loop.
    oracle: Desired,
    leases: mpsc::Sender<Vec<LeaseEvent>>,
}

impl Stage {
    async fn play(&mut self, step: Step) {
        match step {
            Step::Leases(events) => self.events(events).await,
            Step::Meddle(meddling) => self.kernel.with(|world| meddling.happen(world)),
            Step::Fail { spare, count, fault } => self.kernel.with(|world| world.fail(spare, count, fault)),
            Step::Hear(hearing) => self.kernel.with(|world| world.set_hearing(hearing)),
            Step::Wait(milliseconds) => {
                sleep(Duration::from_millis(milliseconds)).await;
                let wish = self.oracle.items().into_iter().collect();
                self.kernel.with(|world| world.sacred = wish);
            }
        }
    }

    /// Until the loop has seen them, the wish of before and of now both count.
    async fn events(&mut self, events: Vec<LeaseEvent>) {
        self.oracle.apply(events.clone(), &*self.survey.backend);
        let (wish, complete) = (self.oracle.items(), self.oracle.is_complete());
        self.kernel.with(|world| {
            world.sacred.retain(|item| wish.contains(item));
            world.may_delete |= complete;
        });
        self.leases.send(events).await.unwrap();
    }

    /// Everybody leaves the host alone from now on.
    async fn calm(&mut self) {
        self.kernel.with(|world| {
            world.stop_failing();
            world.set_address(Some([192, 0, 2, 1].into()));
            world.set_hearing(Hearing::Prompt);
        });
        if !self.oracle.is_complete() {
            self.events(vec![LeaseEvent::Listed]).await;
        }
    }

    fn assert_right(&self) {
        self.kernel.with(|world| {
            let [(_, spec)] = &self.survey.backend.links()[..] else { panic!("one device") };
            let wish = self.oracle.items();
            assert_eq!(plan(&wish, world.items()), [], "what is there: {:?}", world.items());
            assert!(world.device().is_some_and(|link| spec.is_fulfilled_by(link)), "{:?}", world.device());
            assert_eq!(world.offences, [""; 0]);
        });
    }

    /// Nothing is written, and hardly anything read, while all is as it should be.
    async fn assert_quiet(&self) {
        let before = self.kernel.with(|world| (world.writes, world.dumps));
        sleep(pace::AUDIT * 2).await;
        let (writes, dumps) = self.kernel.with(|world| (world.writes, world.dumps));
        assert_eq!(writes, before.0, "writes without need");
        assert!(dumps <= before.1 + 3, "{} audits in two periods", dumps - before.1);
        self.assert_right();
    }
}

/// Plays `story` with a daemon that has just been started.
async fn with_daemon(
    kernel: &FakeNetlink,
    remembered: Option<Vec<Lease>>,
    story: impl AsyncFnOnce(&mut Stage),
) {
    let (config, setup) = (config(), setup());
    let mut shell = kernel.clone();
    kernel.with(|world| {
        world.daemon_dies();
        world.stop_failing();
        (world.may_delete, world.sacred) = (false, Default::default());
        world.set_address(Some([192, 0, 2, 1].into()));
    });
    let survey = || setup.survey(&kernel.clone().facts(false).unwrap(), |_| None).unwrap();
    let mut own = lease(1, 1, 1, 1);
    let (ours, theirs) = (survey(), survey());
    own.attrs = ours.backend.attrs();
    for (dev, spec) in ours.backend.links() {
        shell.ensure_link(dev, &spec).unwrap();
    }
    let (sender, leases) = mpsc::channel(16);
    let (wanted, _hints) = watch::channel(own.attrs.clone());
    let (_findings, standing) = watch::channel(Standing::Held);
    let mut oracle = Desired::new(setup.network.clone(), own.clone(), &*ours.backend);
    let remembered = remembered.map(|peers| Remembered { peers, saved: std::time::SystemTime::UNIX_EPOCH });
    if let Some(Remembered { peers, .. }) = &remembered {
        let puts = peers.iter().cloned().map(LeaseEvent::Put);
        oracle.apply(std::iter::once(LeaseEvent::Listing).chain(puts).collect(), &*ours.backend);
    }
    let reconciler = Reconciler::new(shell, &config, setup.clone(), theirs, own).from_memory(remembered);
    let mut systemd = Systemd::default();
    let mut stage = Stage { kernel: kernel.clone(), survey: ours, oracle, leases: sender };
    tokio::select! {
        () = reconciler.run(Channels { leases, standing, wanted }, &mut systemd) => {}
        () = story(&mut stage) => {}
    }
}

/// Runs on a clock that jumps to whatever is next.
fn in_virtual_time(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(story);
}

fn any_lease() -> impl Strategy<Value = Lease> {
    (1..6_u8, 1..5_u8, 0..3_u8, 1..6_i64)
        .prop_map(|(subnet, ip, mac, created)| lease(subnet, ip, mac, created))
}

fn any_events() -> impl Strategy<Value = Vec<LeaseEvent>> {
    let event = prop_oneof![
        6 => any_lease().prop_map(LeaseEvent::Put),
        2 => any_lease().prop_map(|lease| LeaseEvent::Delete(lease.subnets)),
    ];
    let events = prop::collection::vec(event, 0..5);
    prop_oneof![
        3 => events.clone(),
        1 => prop::collection::vec(any_lease(), 0..5).prop_map(listed),
        1 => Just(vec![LeaseEvent::Listed]),
        1 => Just(vec![LeaseEvent::Listing]),
    ]
}

fn any_meddling() -> impl Strategy<Value = Meddling> {
    prop_oneof![
        (0..20_usize).prop_map(Meddling::Delete),
        (0..20_usize).prop_map(Meddling::Usurp),
        (0..20_usize).prop_map(Meddling::Overwrite),
        (0..12_u8).prop_map(Meddling::Add),
        prop::sample::select(&STATELESS[..]),
        prop::option::of(1..3_u8).prop_map(Meddling::Address),
    ]
}

const STATELESS: [Meddling; 7] = [
    Meddling::Down,
    Meddling::Flap,
    Meddling::Mac,
    Meddling::Mtu,
    Meddling::Learning,
    Meddling::DeleteDevice,
    Meddling::ForeignDevice,
];

fn any_fault() -> impl Strategy<Value = Fault> {
    let errnos =
        [Errno::PERM, Errno::NOBUFS, Errno::BUSY, Errno::INTR, Errno::NODEV, Errno::NOMEM, Errno::INVAL];
    prop_oneof![
        4 => prop::sample::select(errnos.to_vec()).prop_map(Fault::Errno),
        2 => Just(Fault::Lost),
        1 => Just(Fault::Unsettled),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let hearing = [Hearing::Prompt, Hearing::Late, Hearing::Overrun, Hearing::Deaf];
    prop_oneof![
        4 => any_events().prop_map(Step::Leases),
        4 => any_meddling().prop_map(Step::Meddle),
        3 => (0..12_usize, 1..12_usize, any_fault())
            .prop_map(|(spare, count, fault)| Step::Fail { spare, count, fault }),
        1 => prop::sample::select(hearing.to_vec()).prop_map(Step::Hear),
        4 => prop::sample::select(&[1, 30, 700, 5_000, 31_000][..]).prop_map(Step::Wait),
    ]
}

fn any_life() -> impl Strategy<Value = Life> {
    let remembered = prop::option::weighted(0.3, prop::collection::vec(any_lease(), 0..4));
    (remembered, prop::collection::vec(any_step(), 0..20))
        .prop_map(|(remembered, steps)| Life { remembered, steps })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// And nothing is deleted before a list is complete, nothing wanted is taken away, and a kernel that is right is left
    /// alone. Lives end by SIGKILL.
    #[test]
    fn whatever_happened_once_it_stops_the_kernel_holds_what_the_leases_say(
        lives in prop::collection::vec(any_life(), 0..2),
        last in any_life(),
    ) {
        in_virtual_time(async {
            let kernel = FakeNetlink::new();
            for Life { remembered, steps } in lives {
                with_daemon(&kernel, remembered, async |stage: &mut Stage| {
                    for step in steps {
                        stage.play(step).await;
                    }
                }).await;
            }
            with_daemon(&kernel, last.remembered, async |stage: &mut Stage| {
                for step in last.steps {
                    stage.play(step).await;
                }
                stage.calm().await;
                sleep(pace::AUDIT).await;
                stage.assert_right();
                stage.assert_quiet().await;
            }).await;
        });
    }
}
