//! Renders the CNI configuration. Pure.

use super::Draft;
use crate::versions::KubeVersion;
use crate::{Effect, FileKind, Model, Service};

/// The plugin `flannel` reads subnet.env and calls `bridge` and `host-local`.
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

/// The same for a kubelet that does not read lists. Without `cniVersion`, plugins answer in the format of the first specification.
const CONF: &str = r#"{
  "name": "cbr0",
  "type": "flannel",
  "delegate": {
    "hairpinMode": true,
    "isDefaultGateway": true
  }
}
"#;

pub(super) fn render(draft: &mut Draft, model: &Model) {
    draft.directory("/etc/cni/net.d", 0o755);
    draft.directory("/opt/cni/bin", 0o755);
    let (path, text) = if model.kubernetes >= KubeVersion::CONFLIST {
        ("/etc/cni/net.d/10-flannel.conflist", CONFLIST)
    } else {
        ("/etc/cni/net.d/10-flannel.conf", CONF)
    };
    draft.file(
        (Service::Host, FileKind::Json),
        path,
        text.into(),
        Effect::None,
    );
}
