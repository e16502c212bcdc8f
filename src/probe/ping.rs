//! One question, asked a few times: does it come through, how long does it take, how large may it be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::pmtu::Search;
use super::{EchoSocket, Refusal};

/// How often is asked, and how long waited.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Questions, at least one.
    pub attempts: u16,
    /// Between two of them.
    pub gap: Duration,
    /// After the last one.
    pub patience: Duration,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered after so long.
    Answered(Duration),
    /// No answer.
    Silent,
    /// This host did not send it.
    Refused(Refusal),
}

impl Outcome {
    /// The time that it took.
    pub fn time(self) -> Option<Duration> {
        match self {
            Outcome::Answered(time) => Some(time),
            Outcome::Silent | Outcome::Refused(_) => None,
        }
    }
}

/// Asks until there is an answer. Numbers are taken from `first` on.
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

/// The largest size that comes through, of those below one that does not.
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

/// Those of the sizes that are answered.
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
            // One that this host does not send does not come through.
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
