//! See `fuzz/src/subnet_env.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::subnet_env::run(bytes));
