//! Waits with a timeout, and works on many hosts at once.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest and longest pause between two polls.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));
/// Pauses last this many times as long as a poll, so that polls which start programs leave the processors to what is waited for.
const REST: u32 = 3;

/// Number of hosts that are worked on at once. The work is waiting for short child processes, so it is a few more than
/// the number of processors.
const WORKERS: usize = 8;

/// Polls `done` until it returns true or `timeout` has passed, and returns the last result. Polls at least once.
pub fn wait_until(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        let begin = Instant::now();
        if done() {
            return true;
        }
        let now = Instant::now();
        if now >= end {
            return false;
        }
        std::thread::sleep(((now - begin) * REST).clamp(PAUSE.0, PAUSE.1));
    }
}

/// Applies `work` to every item, several at a time; returns the results in the order of the items, or the first error.
pub(super) fn for_all<T, R, E>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
{
    let work = &work;
    let share = items.len().div_ceil(WORKERS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(share)
            .map(|chunk| scope.spawn(move || chunk.iter().map(work).collect::<Result<Vec<R>, E>>()))
            .collect();
        let shares: Result<Vec<Vec<R>>, E> = threads.into_iter().map(join).collect();
        Ok(shares?.into_iter().flatten().collect())
    })
}

/// Continues a panic of a worker in the caller.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_no_longer_than_needed_and_gives_up_in_the_end() {
        let mut asked = 0;
        assert!(wait_until(Duration::from_secs(60), || {
            asked += 1;
            asked == 3
        }));
        assert!(!wait_until(Duration::from_millis(5), || false));
    }

    #[test]
    fn keeps_the_order_and_reports_an_error() {
        let items: Vec<u32> = (0..100).collect();
        let doubled: Result<Vec<u32>, ()> = for_all(&items, |n| Ok(n * 2));
        assert_eq!(doubled, Ok(items.iter().map(|n| n * 2).collect()));
        assert_eq!(
            for_all(&items, |n| if *n == 57 { Err(*n) } else { Ok(()) }),
            Err(57)
        );
        assert_eq!(for_all(&[], |(): &()| Ok::<(), ()>(())), Ok(Vec::new()));
    }
}
