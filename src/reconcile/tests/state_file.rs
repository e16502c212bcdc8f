//! When the state file is written, and what it says of its age.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::stage::{Stack, Start, Step, config, home, in_virtual_time, lease, listed, start};
use crate::config::Config;
use crate::kernel::fake::FakeNetlink;
use crate::subnet::Lease;
use crate::util::systemd::{Notifier, Systemd};

/// Time is virtual and the file is written by a thread: it is waited for in real time.
fn wait_for(file: &Path) -> String {
    for _ in 0..10_000 {
        match std::fs::read_to_string(file) {
            Ok(text) => return text,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    panic!("{} was not written", file.display());
}

/// Runs a daemon that has a state file, and reads that after each of these pauses. It is removed in between.
fn state_files(peers: Option<Vec<Lease>>, pauses: [u64; 2]) -> Vec<String> {
    let (home, kernel, mut texts) = (home(), FakeNetlink::new(), Vec::new());
    let file = home.path().join("state.json");
    let config = Config {
        state_file: Some(file.clone()),
        ..config(home.path())
    };
    in_virtual_time(async {
        let Start {
            reconciler,
            keepers,
            channels,
            mut stage,
        } = start(&kernel, Stack::V4, &config, peers);
        let mut systemd = Systemd::default();
        let story = async {
            stage.play(Step::Leases(listed([lease(2, 2, 2, 2)]))).await;
            for pause in pauses {
                sleep(Duration::from_secs(pause)).await;
                texts.push(wait_for(&file));
                std::fs::remove_file(&file).unwrap();
            }
        };
        tokio::select! {
            never = reconciler.run(channels, &mut systemd, Notifier::default()) => match never {},
            never = keepers.run() => match never {},
            () = story => {}
        }
    });
    texts
}

/// Its age says how long ago etcd confirmed the lease, not how long ago a peer changed.
#[test]
fn state_file_is_written_every_hour_while_nothing_changes() {
    let texts = state_files(None, [10, 3700]);
    assert!(
        texts.iter().all(|text| !text.contains("\"saved\":0,")),
        "{texts:?}"
    );
}

#[test]
fn unconfirmed_state_does_not_get_younger() {
    let texts = state_files(Some(Vec::new()), [10, 3700]);
    assert!(
        texts.iter().all(|text| text.contains("\"saved\":0,")),
        "{texts:?}"
    );
}
