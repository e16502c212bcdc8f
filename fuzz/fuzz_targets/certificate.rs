//! See `fuzz/src/certificate.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::certificate::run(bytes));
