//! Pings from every pod to every other pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::wait::for_all;
use super::{LabError, Pod, wait_until};

#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Rows are sources, columns are destinations. Each value is the time in milliseconds of the slowest address of a pod; `None` if an
    /// address did not answer, and on the diagonal.
    pub times: Vec<Vec<Option<f64>>>,
}

impl Matrix {
    /// Pings until every pair has answered once or `timeout` has passed, because peers appear a moment after the
    /// hosts are ready. A pair that has answered is not pinged again.
    pub(super) fn measure(pods: &[&Pod], timeout: Duration) -> Result<Self, LabError> {
        let mut matrix = Self {
            times: vec![vec![None; pods.len()]; pods.len()],
        };
        let mut asked = Ok(());
        wait_until(timeout, || {
            asked = matrix.round(pods);
            asked.is_err() || matrix.missing().next().is_none()
        });
        asked.map(|()| matrix)
    }

    /// Returns the pairs (source, destination) that do not reach each other, as indices.
    pub fn missing(&self) -> impl Iterator<Item = (usize, usize)> {
        let all = self.times.iter().enumerate();
        all.flat_map(|(from, row)| {
            row.iter()
                .enumerate()
                .map(move |(to, time)| (from, to, time))
        })
        .filter(|(from, to, time)| from != to && time.is_none())
        .map(|(from, to, _)| (from, to))
    }

    pub fn pairs(&self) -> usize {
        self.times.len() * self.times.len().saturating_sub(1)
    }

    fn round(&mut self, pods: &[&Pod]) -> Result<(), LabError> {
        let rows: Vec<usize> = (0..pods.len()).collect();
        let answers = for_all(&rows, |&from| {
            let asked = self
                .missing()
                .filter(|pair| pair.0 == from)
                .filter_map(|pair| pods.get(pair.1));
            let addresses: Vec<String> = asked
                .flat_map(|pod| pod.addresses())
                .map(|ip| ip.to_string())
                .collect();
            pods[from].node.sh(&script(&addresses))
        })?;
        for (row, text) in self.times.iter_mut().zip(&answers) {
            let times: BTreeMap<IpAddr, f64> = text.lines().filter_map(parse).collect();
            for (cell, pod) in row.iter_mut().zip(pods) {
                let slowest =
                    |addresses: Vec<&f64>| addresses.into_iter().copied().reduce(f64::max);
                let answered: Option<Vec<&f64>> =
                    pod.addresses().map(|ip| times.get(&ip)).collect();
                *cell = answered.and_then(slowest).or(*cell);
            }
        }
        Ok(())
    }
}

/// Pings every address once, sixteen at a time, so that silent ones cost two seconds together.
fn script(addresses: &[String]) -> String {
    let batches = addresses.chunks(16).map(|batch| {
        let pings: String = batch
            .iter()
            .map(|address| format!("ping -n -c1 -W2 {address} & "))
            .collect();
        format!("{pings}wait\n")
    });
    batches.collect()
}

/// Parses `64 bytes from 172.30.1.2: icmp_seq=1 ttl=62 time=0.123 ms`.
fn parse(line: &str) -> Option<(IpAddr, f64)> {
    let (address, rest) = line.split_once(" bytes from ")?.1.split_once(": ")?;
    let time = rest.split_once("time=")?.1.split_whitespace().next()?;
    Some((address.parse().ok()?, time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_answers_and_nothing_else() {
        let answer = "64 bytes from 172.30.1.2: icmp_seq=1 ttl=62 time=0.123 ms";
        assert_eq!(parse(answer), Some(([172, 30, 1, 2].into(), 0.123)));
        let answer = "64 bytes from fd30:0:0:15::2: icmp_seq=1 ttl=62 time=0.123 ms";
        assert_eq!(
            parse(answer),
            Some(([0xfd30, 0, 0, 0x15, 0, 0, 0, 2].into(), 0.123))
        );
        for line in [
            "",
            "From 10.64.0.1 icmp_seq=1 Destination Host Unreachable",
            "1 packets transmitted",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn knows_what_is_missing() {
        let matrix = Matrix {
            times: vec![vec![None, Some(0.1)], vec![None, None]],
        };
        assert_eq!(matrix.missing().collect::<Vec<_>>(), [(1, 0)]);
        assert_eq!(matrix.pairs(), 2);
    }
}
