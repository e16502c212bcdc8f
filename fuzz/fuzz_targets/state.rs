//! See `fuzz/src/state.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::state::run(bytes));
