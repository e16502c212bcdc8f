//! The tool's program. Cargo names only programs of the package that is tested; the tool lies beside the daemon.

#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

static TOOL: LazyLock<String> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_BIN_EXE_flanneld")).with_file_name("rflannel");
    let built = modified(&path);
    let newest = ["src", "crates/lab", "crates/node-setup", "crates/rflannel"]
        .map(|dir| newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)))
        .into_iter()
        .max();
    assert!(
        built.is_some() && built >= newest.flatten(),
        "{} is missing or older than its sources: run `cargo build --bins` first",
        path.display()
    );
    path.to_string_lossy().into_owned()
});

/// The path of `rflannel`, which is as new as its sources.
pub fn rflannel() -> &'static str {
    &TOOL
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When the last source was changed. Tests are not built into the program.
fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let paths = entries.map(|entry| entry.path());
    let sources = paths.filter(|path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default();
        !["tests", "fake"].iter().any(|test| name == *test)
    });
    let times = sources.map(|path| {
        if path.is_dir() {
            newest(&path)
        } else {
            modified(&path)
        }
    });
    times.max().flatten()
}
