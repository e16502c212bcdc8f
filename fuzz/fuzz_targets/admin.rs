//! See `fuzz/src/admin.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::admin::run(bytes));
