//! Any bytes as a message of the kernel: read as item, notice or fact, or not at all.

use flanneld::kernel::{LinkRole, Notification, Owned};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

pub fn run(bytes: &[u8]) {
    let owned = Owned {
        networks: vec!["10.5.0.0/16".parse().unwrap()],
        ..Owned::default()
    };
    let message =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map(NetlinkMessage::into_parts);
    if let Ok((_, NetlinkPayload::InnerMessage(message))) = message {
        let _ = owned.entry(&message, |_| Some(LinkRole::Overlay));
        let _ = Notification::read(&message, &owned, |_| Some(LinkRole::Overlay));
    }
}
