//! The files in `systemd/`. The first line of each says where it belongs.

use std::fs;
use std::path::Path;

/// A file as it is shipped.
pub struct Shipped {
    /// Where it is to be installed.
    pub target: String,
    pub text: String,
}

/// All of them.
pub fn shipped() -> Vec<Shipped> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let dirs = [dir.clone(), dir.join("docker.service.d")];
    let entries = dirs
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| read(&path))
        .collect()
}

/// One of them, by the end of its target.
pub fn shipped_as(end: &str) -> String {
    let found = shipped()
        .into_iter()
        .find(|file| file.target.ends_with(end));
    found
        .unwrap_or_else(|| panic!("no file in systemd/ belongs at {end}"))
        .text
}

fn read(path: &Path) -> Shipped {
    let text = fs::read_to_string(path).unwrap();
    let target = text
        .strip_prefix("# ")
        .and_then(|text| text.split(':').next())
        .unwrap_or_default()
        .to_owned();
    assert!(
        target.starts_with("/etc/") && !target.contains(' '),
        "{}: where does it belong?",
        path.display()
    );
    Shipped { target, text }
}
