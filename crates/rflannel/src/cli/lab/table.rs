//! Formats tables of hosts and of round-trip times.

use flanneld::util::table;
use lab::{Host, KeptLab, Lab, LabError, Matrix, Node, Pod};

/// With more hosts, the matrix does not fit on a screen, so only its extremes are shown.
const MATRIX_HOSTS: usize = 16;

/// Prints the name of the first vxlan device and the number of peers in its FDB; without such a device, the underlay and the routes
/// through other hosts.
const OVERLAY: &str = r"
device=$(ip -o link show type vxlan | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | head -n 1)
peers=$(bridge fdb show dev ${device:-lo} | grep -c ' dst ' || true)
if [ -z $device ]; then
    routes() { ip $1 route show dev eth0 | grep -v ^default | grep -c ' via ' || true; }
    peers=$(routes -4)
    [ $peers -gt 0 ] || peers=$(routes -6)
    [ $peers -eq 0 ] || device=eth0
fi
echo ${device:--} $peers
";

/// Formats one row for each host: host, address, subnet, device, peers.
pub(super) fn hosts(lab: &Lab) -> Result<String, LabError> {
    let heading = ["host", "address", "subnet", "device", "peers"]
        .map(String::from)
        .to_vec();
    let rows: Result<Vec<Vec<String>>, LabError> = lab.hosts().iter().map(host).collect();
    Ok(align(std::iter::once(heading).chain(rows?)))
}

fn host(host: &Host) -> Result<Vec<String>, LabError> {
    let node = host.node();
    let overlay = node.sh(OVERLAY)?;
    let subnet = host.pod().map_or_else(|| "-".into(), subnets);
    let columns = [node.name().to_owned(), node.address().to_string(), subnet].into_iter();
    Ok(columns
        .chain(overlay.split_whitespace().map(str::to_owned))
        .collect())
}

fn subnets(pod: &Pod) -> String {
    let also = pod
        .also
        .map(|(_, subnet)| format!(", {subnet}"))
        .unwrap_or_default();
    format!("{}{also}", pod.subnet)
}

/// Formats the round-trip times in milliseconds, from the row's pod to the column's pod.
pub(super) fn pings(lab: &Lab, matrix: &Matrix) -> String {
    if lab.hosts().len() > MATRIX_HOSTS {
        return extremes(matrix);
    }
    let names: Vec<&str> = lab.hosts().iter().map(|host| host.node().name()).collect();
    let heading =
        std::iter::once("ping, ms".to_owned()).chain(names.iter().map(ToString::to_string));
    let rows = matrix.times.iter().enumerate().map(|(from, times)| {
        let cells = times
            .iter()
            .enumerate()
            .map(move |(to, time)| cell(from == to, *time));
        names
            .get(from)
            .map(ToString::to_string)
            .into_iter()
            .chain(cells)
            .collect()
    });
    align(std::iter::once(heading.collect()).chain(rows))
}

fn cell(own: bool, time: Option<f64>) -> String {
    match time {
        Some(time) => format!("{time:.2}"),
        None if own => "·".into(),
        None => "none".into(),
    }
}

fn extremes(matrix: &Matrix) -> String {
    let mut times: Vec<f64> = matrix.times.iter().flatten().copied().flatten().collect();
    times.sort_by(f64::total_cmp);
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(least), Some(middle), Some(most)) => {
            format!("ping, ms: least {least:.2}, median {middle:.2}, most {most:.2}\n")
        }
        _ => "no ping was answered\n".into(),
    }
}

/// Formats a kept lab with its nodes and the programs that run there.
pub(super) fn kept(lab: &KeptLab) -> String {
    if !lab.alive() {
        return format!(
            "{}: dead; `rflannel lab down --name {}` deletes its record\n",
            lab.name(),
            lab.name()
        );
    }
    let row = |node: &Node| {
        vec![
            format!("  {}", node.name()),
            node.address().to_string(),
            node.processes().join(" "),
        ]
    };
    format!(
        "{}: running\n{}",
        lab.name(),
        align(lab.nodes().iter().map(row))
    )
}

fn align(rows: impl Iterator<Item = Vec<String>>) -> String {
    table::align(rows)
        .into_iter()
        .map(|line| line + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_a_large_matrix() {
        let matrix = Matrix {
            times: vec![
                vec![None, Some(0.3), Some(0.1)],
                vec![Some(0.2), None, Some(9.0)],
            ],
        };
        assert_eq!(
            extremes(&matrix),
            "ping, ms: least 0.10, median 0.30, most 9.00\n"
        );
        assert_eq!(
            extremes(&Matrix {
                times: vec![vec![None]]
            }),
            "no ping was answered\n"
        );
    }

    #[test]
    fn tells_silence_from_self() {
        let cells = [
            cell(true, None),
            cell(false, None),
            cell(false, Some(0.123)),
        ];
        assert_eq!(cells, ["·", "none", "0.12"]);
    }
}
