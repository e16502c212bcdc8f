//! See `fuzz/src/lease_value.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::lease_value::run(bytes));
