//! Lines on their way to standard error. A reader that stalls costs lines, and never holds up the thread that logs.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of text that may wait for the reader: some ten thousand lines.
pub(super) const CAPACITY: usize = 1 << 20;

/// What the thread that writes has to write next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A line with its line break.
    Line(Vec<u8>),
    /// The number of lines that were dropped at this place.
    Lost(u64),
}

/// A bounded queue of lines with one reader.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The reader has an entry that is not written yet.
    writing: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Appends a line, or drops and counts it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.bytes + line.len() <= self.capacity {
            state.bytes += line.len();
            state.entries.push_back(Entry::Line(line.to_vec()));
        } else if let Some(Entry::Lost(count)) = state.entries.back_mut() {
            *count += 1;
        } else {
            state.entries.push_back(Entry::Lost(1));
        }
        self.changed.notify_all();
    }

    /// Waits for the next entry. Asking for it says that the one before is written.
    pub(super) fn next(&self) -> Entry {
        let mut state = self.state();
        loop {
            state.writing = false;
            if let Some(entry) = state.entries.pop_front() {
                state.writing = true;
                if let Entry::Line(line) = &entry {
                    state.bytes -= line.len();
                }
                return entry;
            }
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, for `limit` at most.
    pub(super) fn flush(&self, limit: Duration) {
        let is_busy = |state: &mut State| state.writing || !state.entries.is_empty();
        // A reader that stalls loses the rest.
        let _ = self
            .changed
            .wait_timeout_while(self.state(), limit, is_busy);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn line(text: &str) -> Entry {
        Entry::Line(text.into())
    }

    #[test]
    fn full_queue_drops_and_counts_at_the_place_of_the_gap() {
        let queue = Queue::new(6);
        ["one", "two", "three", "four"]
            .iter()
            .for_each(|text| queue.push(text.as_bytes()));
        assert_eq!(queue.next(), line("one"));
        queue.push(b"six");
        queue.push(b"seven");
        let rest: Vec<Entry> = (0..4).map(|_| queue.next()).collect();
        assert_eq!(
            rest,
            [line("two"), Entry::Lost(2), line("six"), Entry::Lost(1)]
        );
    }

    #[test]
    fn flush_waits_for_the_line_being_written() {
        let queue = Arc::new(Queue::new(100));
        queue.push(b"last");
        queue.flush(Duration::from_millis(1));
        assert_eq!(
            queue.next(),
            line("last"),
            "a reader that stalls does not block the flush"
        );
        let reader = Arc::clone(&queue);
        let (written, is_written) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _ = written.send(());
            reader.next()
        });
        queue.flush(Duration::MAX);
        is_written.try_recv().unwrap();
        queue.push(b"for the thread");
    }
}
