//! See `fuzz/src/net_config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::net_config::run(bytes));
