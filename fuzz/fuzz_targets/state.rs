//! Any bytes as a state file: a state of this machine, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use flanneld::state_file::{Owner, parse};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse(
        bytes,
        Owner {
            machine: "m",
            prefix: "/p",
        },
    );
});
