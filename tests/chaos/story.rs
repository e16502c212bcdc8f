//! The events of a run, and the tail of them that led to a violation.

use tokio::time::Instant;

/// Events in order, with their time.
#[derive(Debug)]
pub struct Story {
    begin: Instant,
    events: Vec<String>,
    /// How many events there were when all invariants held last.
    good: usize,
    /// Events that injected a fault.
    pub faults: usize,
}

impl Story {
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            events: Vec::new(),
            good: 0,
            faults: 0,
        }
    }

    /// Records and prints an event.
    pub fn record(&mut self, event: &str) {
        let line = format!("{:8.2} s  {event}", self.begin.elapsed().as_secs_f64());
        println!("{line}");
        self.events.push(line);
    }

    /// All invariants hold: whatever happened before this is not the cause of a later violation.
    pub fn mark_good(&mut self) {
        self.record("all invariants hold");
        self.good = self.events.len();
    }

    /// All events.
    pub fn text(&self) -> String {
        self.events.join("\n")
    }

    /// The events since all invariants held last.
    pub fn tail(&self) -> String {
        self.events[self.good..]
            .iter()
            .map(|event| format!("  {event}\n"))
            .collect()
    }
}

#[test]
fn tail_begins_after_last_good_moment() {
    let mut story = Story::new();
    story.record("one");
    story.mark_good();
    story.record("two");
    assert!(story.tail().contains("two") && !story.tail().contains("one"));
    assert_eq!(story.tail().lines().count(), 1);
}
