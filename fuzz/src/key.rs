//! Any text: an accepted key is exactly what would be written for it.

use flanneld::subnet::key;

pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(subnets) = key::parse(text) {
        assert_eq!(key::format(&subnets), text);
        assert!(subnets.v4.is_some() || subnets.v6.is_some());
    }
}
