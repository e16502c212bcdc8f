//! Any text: a remembered subnet has no host bits, and docker's options can be made of whatever the file holds.

use flanneld::docker_opts::{self, Options};
use flanneld::util::family::Family;
use flanneld::{subnet_env, util::env_file};

pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for subnet in subnet_env::remembered(text, Family::ALL).subnets.iter() {
        assert_eq!(subnet.ip(), subnet.network());
    }
    let (variables, _) = env_file::parse(text);
    assert!(variables.keys().all(|name| env_file::is_name(name)));
    let rendered = docker_opts::render(&Options::default(), &variables);
    assert!(rendered.is_err() || rendered.is_ok_and(|text| text.ends_with("\"\n")));
}
