//! Any text: an accepted key is exactly what would be written for it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use flanneld::subnet::key;

fuzz_target!(|text: &str| {
    if let Ok(subnets) = key::parse(text) {
        assert_eq!(key::format(&subnets), text);
        assert!(subnets.v4.is_some() || subnets.v6.is_some());
    }
});
