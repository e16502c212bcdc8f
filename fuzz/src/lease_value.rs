//! Any bytes: an accepted lease value survives being written and read again.

use flanneld::subnet::LeaseAttrs;

pub fn run(value: &[u8]) {
    if let Ok(attrs) = LeaseAttrs::decode(value) {
        let written = attrs.encode();
        let again = LeaseAttrs::decode(written.as_bytes());
        assert_eq!(again.as_ref(), Ok(&attrs));
        assert_eq!(again.map(|attrs| attrs.encode()), Ok(written));
    }
}
