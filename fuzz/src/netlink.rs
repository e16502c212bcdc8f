//! Any bytes as messages of the kernel: read as entry, notification, or link, or not at all.

use flanneld::kernel::decode::{Object, messages};
use flanneld::kernel::{LinkRole, Notification, Owned};

pub fn run(bytes: &[u8]) {
    let owned = Owned {
        networks: vec!["10.5.0.0/16".parse().unwrap()],
        ..Owned::default()
    };
    for message in messages(bytes) {
        let entry = |object: Object| owned.entry(&object, |_| Some(LinkRole::Overlay));
        let _ = Object::read(&message).and_then(entry);
        let _ = Notification::read(&message, &owned, |_| Some(LinkRole::Overlay));
    }
}
