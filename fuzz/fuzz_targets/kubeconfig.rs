//! See `fuzz/src/kubeconfig.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::kubeconfig::run(bytes));
