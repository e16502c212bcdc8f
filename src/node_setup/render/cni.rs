//! The CNI configuration, for runtimes that ask a plugin for each pod's network: pure.

use super::Draft;
use crate::node_setup::{Effect, FileKind, Service};

/// The plugin `flannel` reads subnet.env and hands on to `bridge` and `host-local`.
const CONFLIST: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
"#;

pub(super) fn render(draft: &mut Draft) {
    draft.directory("/etc/cni/net.d", 0o755);
    draft.directory("/opt/cni/bin", 0o755);
    draft.file(
        (Service::Host, FileKind::Json),
        "/etc/cni/net.d/10-flannel.conflist",
        CONFLIST.into(),
        Effect::None,
    );
}
