//! Pings without a pause, and whether all are answered.

use std::net::IpAddr;

use lab::{LabError, Node, Process, wait_until};

use super::PATIENCE;

/// A ping between pods, fifty times a second, that runs until it is asked for its result.
pub struct SteadyPing(Process);

impl SteadyPing {
    /// Begins; returns after the first answer.
    pub fn start(from: &Node, to: impl Into<IpAddr>) -> Result<Self, LabError> {
        let to: IpAddr = to.into();
        let name = if to.is_ipv4() { "ping" } else { "ping6" };
        let ping = Self(
            from.pod()
                .spawn(name, ["ping", "-n", "-i", "0.02", &to.to_string()])?,
        );
        ping.answered(0);
        Ok(ping)
    }

    /// Waits for some more answers; asserts that none is missing among all of them.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let numbers = self.answered(self.numbers().len() + 10);
        let last = numbers.last().copied().unwrap_or_default();
        assert_eq!(
            numbers,
            (1..=last).collect::<Vec<_>>(),
            "answers are missing"
        );
    }

    #[track_caller]
    fn answered(&self, above: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        let enough = wait_until(PATIENCE, || {
            numbers = self.numbers();
            numbers.len() > above
        });
        assert!(enough, "no answers: {:?}", self.0.log_tail(3));
        numbers
    }

    fn numbers(&self) -> Vec<u32> {
        let log = self.0.log();
        let answers = log
            .lines()
            .filter_map(|line| line.split_once("icmp_seq=")?.1.split_once(' '));
        answers
            .filter_map(|(number, _)| number.parse().ok())
            .collect()
    }
}
