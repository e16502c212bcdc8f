//! Sends a request several times: whether it is answered, how fast, and up to which size.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::pmtu::Search;
use super::{EchoSocket, Refusal};

#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Number of requests, at least one.
    pub attempts: u16,
    pub gap: Duration,
    /// Time to wait after the last request.
    pub patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered after this time.
    Answered(Duration),
    Silent,
    /// This host did not send it.
    Refused(Refusal),
}

impl Outcome {
    pub fn time(self) -> Option<Duration> {
        match self {
            Outcome::Answered(time) => Some(time),
            Outcome::Silent | Outcome::Refused(_) => None,
        }
    }
}

/// Sends requests until one is answered. Sequence numbers begin at `first`.
pub async fn ping(line: &EchoSocket, first: u16, size: u32, timing: Timing) -> Outcome {
    let mut sent = BTreeMap::new();
    let mut refusal = None;
    for attempt in 0..timing.attempts.max(1) {
        let seq = first.wrapping_add(attempt);
        match line.send(seq, size).await {
            Ok(()) => drop(sent.insert(seq, Instant::now())),
            Err(error) => refusal = Some(Refusal::from(&error)),
        }
        let is_last = attempt + 1 >= timing.attempts;
        let heard = answer(line, &sent);
        if let Ok(time) = timeout(if is_last { timing.patience } else { timing.gap }, heard).await {
            return Outcome::Answered(time);
        }
    }
    match refusal {
        Some(refusal) if sent.is_empty() => Outcome::Refused(refusal),
        _ => Outcome::Silent,
    }
}

async fn answer(line: &EchoSocket, sent: &BTreeMap<u16, Instant>) -> Duration {
    loop {
        if let Some(at) = sent.get(&line.answer().await) {
            return at.elapsed();
        }
    }
}

/// Finds the largest size that passes, below one that does not.
pub async fn largest(line: &EchoSocket, fails: u32, timing: Timing) -> u32 {
    let mut search = Search {
        passes: line.smallest(),
        fails,
    };
    let mut first = 0;
    loop {
        let tried = search.sizes();
        if tried.is_empty() {
            return search.passes;
        }
        let came = answered(line, &tried, first, timing).await;
        search = search.narrowed(&tried, &came);
        first = first.wrapping_add(1 << 10);
    }
}

/// Returns the sizes that are answered.
async fn answered(
    line: &EchoSocket,
    sizes: &BTreeSet<u32>,
    first: u16,
    timing: Timing,
) -> BTreeSet<u32> {
    let numbered: BTreeMap<u16, u32> = (first..).zip(sizes.iter().copied()).collect();
    let mut came = BTreeSet::new();
    for attempt in 0..timing.attempts.max(1) {
        for (seq, size) in numbered.iter().filter(|(_, size)| !came.contains(*size)) {
            // A size that this host does not send does not pass.
            let _ = line.send(*seq, *size).await;
        }
        let is_last = attempt + 1 >= timing.attempts;
        let end = Instant::now() + if is_last { timing.patience } else { timing.gap };
        while came.len() < sizes.len()
            && let Ok(seq) = timeout_at(end, line.answer()).await
        {
            came.extend(numbered.get(&seq));
        }
    }
    came
}
