//! See `fuzz/src/node_setup.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::node_setup::run(bytes));
