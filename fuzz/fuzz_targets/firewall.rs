//! See `fuzz/src/firewall.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::firewall::run(bytes));
