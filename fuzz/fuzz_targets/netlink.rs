//! See `fuzz/src/netlink.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::netlink::run(bytes));
