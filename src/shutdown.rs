//! The end of the process: within two seconds of the first signal, and at once with the second, whatever is slow.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{info, warn};

/// From the first signal to the end of the process, less what the last log lines may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// Waits until the daemon has ended by itself, or has had its chance to end after a signal.
///
/// Returns what the daemon ended with. None after a signal that it did not answer in time.
pub async fn supervise<T>(
    daemon: impl Future<Output = T>,
    mut signal: impl AsyncFnMut() -> &'static str,
    stop: oneshot::Sender<()>,
) -> Option<T> {
    tokio::pin!(daemon);
    tokio::select! {
        end = &mut daemon => return Some(end),
        name = signal() => info!(signal = name, "received {name}"),
    }
    // A daemon that has just ended needs no telling.
    let _ = stop.send(());
    tokio::select! {
        end = &mut daemon => return Some(end),
        name = signal() => info!(signal = name, "received {name} again: exiting at once"),
        () = sleep(LIMIT) => warn!("a file or a program did not answer: exiting without waiting for it"),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    /// Signals that come after these pauses, in seconds.
    async fn supervised(
        daemon: impl AsyncFnOnce(oneshot::Receiver<()>) -> u8,
        pauses: &[u64],
    ) -> (Option<u8>, Duration) {
        let (stop, stopped) = oneshot::channel();
        let mut pauses = pauses.iter();
        let signal = async || {
            match pauses.next() {
                Some(pause) => sleep(Duration::from_secs(*pause)).await,
                None => pending().await,
            }
            "SIGTERM"
        };
        let begin = Instant::now();
        let end = supervise(daemon(stopped), signal, stop).await;
        (end, begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn daemon_that_ends_decides_the_status() {
        let (end, _) = supervised(async |_| 1, &[]).await;
        assert_eq!(end, Some(1));
        let obedient = async |stopped: oneshot::Receiver<()>| {
            stopped.await.unwrap();
            0
        };
        let (end, took) = supervised(obedient, &[7]).await;
        assert_eq!((end, took.as_secs()), (Some(0), 7));
    }

    #[tokio::test(start_paused = true)]
    async fn hung_daemon_is_left_after_the_limit_or_a_second_signal() {
        let (end, took) = supervised(async |_| pending().await, &[7]).await;
        assert_eq!((end, took), (None, Duration::from_secs(7) + LIMIT));
        let (end, took) = supervised(async |_| pending().await, &[7, 1]).await;
        assert_eq!((end, took), (None, Duration::from_secs(8)));
    }
}
