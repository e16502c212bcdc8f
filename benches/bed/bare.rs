//! The least that a daemon of this kind does at its start: a process that connects to etcd over TLS, reads one key, makes the
//! device, and says READY. The bench starts itself in this part.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use lab::{Flanneld, Lab};
use rtnetlink::LinkVxlan;
use tokio::time::Instant;

use super::etcd::Etcd;
use super::{Outcome, PATIENCE, milliseconds};

/// Announces this part among the arguments; the endpoint of etcd follows.
const PART: &str = "--bare-start";
const DEVICE: &str = "bare.1";

/// Plays the part, if that is what this process was started for.
pub fn play() -> Option<Outcome<()>> {
    let endpoint = std::env::args()
        .skip_while(|argument| argument != PART)
        .nth(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Some(runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            Etcd::connect(|path| PathBuf::from(path), &endpoint)
                .await?
                .config()
                .await?;
            make_device().await?;
            let path = std::env::var("NOTIFY_SOCKET")?;
            UnixDatagram::unbound()?.send_to(b"READY=1", path)?;
            Ok(())
        })
    }))
}

async fn make_device() -> Outcome<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let device = LinkVxlan::new(DEVICE, 2)
        .local(Ipv4Addr::UNSPECIFIED)
        .port(8473)
        .up();
    handle.link().add(device.build()).execute().await?;
    Ok(())
}

/// From exec to READY=1, in milliseconds.
pub fn start(lab: &Lab) -> Outcome<f64> {
    let (node, endpoints) = (lab.host(1), lab.etcd()?.endpoints());
    let program = std::env::current_exe()?;
    let mut command = node.command([program]);
    command.args([PART, &endpoints]);
    let begin = Instant::now();
    Flanneld::start(node, command)?.wait_ready(PATIENCE)?;
    let time = milliseconds(begin);
    node.sh(&format!("ip link del {DEVICE}"))?;
    Ok(time)
}
