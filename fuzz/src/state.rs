//! Any bytes as a state file: a state of this machine, or an error.

use flanneld::state_file::{Owner, parse};

pub fn run(bytes: &[u8]) {
    let _ = parse(
        bytes,
        Owner {
            machine: "m",
            prefix: "/p",
        },
    );
}
