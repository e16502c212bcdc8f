//! Any text as settings, and as what a host may have already: a plan, or an error.

use node_setup::{Host, Model, Settings, argv, plan, unit};

const NODE: &str = "node-ip = '10.64.3.7'\netcd-endpoints = 'https://10.64.3.7:2379'\nkubernetes-version = '1.23'\n";

pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let _ = argv::decode(text);
    let _ = unit::Unit::parse(text).to_string();
    if let Ok(settings) = Settings::from_toml(&format!("{NODE}{text}")) {
        let _ = Model::new(settings).map(|model| plan(&model, &Host::default()));
    }
    let host = Host {
        docker_unit: Some(text.into()),
        daemon_json: Some(text.into()),
        ..Host::default()
    };
    if let Ok(model) = Settings::from_toml(NODE).and_then(Model::new) {
        let _ = plan(&model, &host);
    }
}
