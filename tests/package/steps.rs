//! The commands of `docs/guides/install.md` and `docs/guides/move-a-cluster.md`, so that what is tested is what is written there.

use crate::support::systemd_host::SystemdHost;

const DOCUMENTS: &str = concat!(
    include_str!("../../docs/guides/install.md"),
    include_str!("../../docs/guides/move-a-cluster.md")
);

/// The commands of one block below a heading, counted from 0.
pub(crate) fn block(heading: &str, number: usize) -> String {
    let (_, section) = DOCUMENTS
        .split_once(&format!("# {heading}\n"))
        .expect(heading);
    let end = section.find("\n## ").unwrap_or(section.len());
    let mut blocks = section[..end].split("```sh\n").skip(1);
    let block = blocks
        .nth(number)
        .unwrap_or_else(|| panic!("{heading} has no block {number}"));
    // Everybody is root here.
    block.split("```").next().unwrap().replace("sudo ", "")
}

/// Runs one on a host that has what it names in /root; what it says.
pub(crate) fn run(host: &SystemdHost<'_>, heading: &str, number: usize) -> String {
    let answers = "export DEBIAN_FRONTEND=noninteractive; apt() { apt-get -qq -y \"$@\"; }";
    host.must(&format!(
        "set -e; cd /root; {answers}; ({}) 2>&1",
        block(heading, number)
    ))
}
