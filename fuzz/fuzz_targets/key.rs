//! See `fuzz/src/key.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::key::run(bytes));
