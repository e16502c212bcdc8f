//! What several test programs share.
#![allow(dead_code, unreachable_pub, reason = "no test program uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its test"
)]

pub mod certs;
pub mod docker;
pub mod etcd;
pub mod go;
pub mod installed;
pub mod netns;
pub mod proxy;
pub mod shipped;
pub mod steady_ping;
pub mod systemd_host;
pub mod tool;

use std::future::Future;
use std::time::Duration;

/// The bound of every wait: far above what anything takes, so that only a real fault reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Asks again and again until the answer is there.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
