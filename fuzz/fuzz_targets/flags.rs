//! See `fuzz/src/flags.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::flags::run(bytes));
