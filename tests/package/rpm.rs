//! The RPM package, by rpm itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::build::Packages;
use crate::contents::{assert_has_all_licenses, listed, must};

const SETTINGS: &str = "etc/default/flanneld";
const SCRIPT: &str = "usr/libexec/flannel/mk-docker-opts.sh";

/// Runs rpm below a root; what it says on both outputs.
fn rpm(root: &Path, args: &[&str]) -> String {
    let mut command = Command::new("rpm");
    command
        .arg("--root")
        .arg(root)
        .args(args)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "rpm {args:?}: {said}");
    said
}

/// Where the other package has a file; none if only Debian asks for it.
fn elsewhere(path: &str) -> Option<String> {
    let file = path
        .strip_prefix("/usr/share/doc/rflannel/")
        .unwrap_or_default();
    match file {
        "copyright" => Some("/usr/share/licenses/rflannel/LICENSE".into()),
        "third-party-licenses.gz" => Some(format!("/usr/share/licenses/rflannel/{file}")),
        "changelog.Debian.gz" => None,
        _ if path.starts_with("/usr/share/lintian/") => None,
        _ => Some(path.replace("/zsh/vendor-completions/", "/zsh/site-functions/")),
    }
}

#[test]
fn rpm_is_made_installs_verifies_upgrades_and_goes() {
    let packages = Packages::new();
    let [first, second] = ["1.0-1", "2.0-1"].map(|version| packages.make_rpm(version));
    // The same input, the same bytes.
    let again = Packages::new();
    assert!(fs::read(&first).unwrap() == fs::read(again.make_rpm("1.0-1")).unwrap());
    let [first, second] = [&first, &second].map(|path| path.to_str().unwrap());
    let deb = listed(&packages.make("1.0-1"));
    let files = |list: &str| list.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let wanted = deb
        .iter()
        .filter(|path| !path.ends_with('/'))
        .filter_map(|path| elsewhere(path))
        .collect();
    assert_eq!(files(&must("rpm", &["-qlp", first])), wanted);
    let requires = must("rpm", &["-qp", "--requires", first]);
    assert!(
        requires.contains("systemd >= 239") && requires.contains("libc.so.6(GLIBC_2."),
        "{requires}"
    );

    // A shell for the scripts of the package, and nothing else.
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/sh")).unwrap();
    let said = rpm(root, &["-i", "--nodeps", first]);
    assert!(
        said.contains("not started: edit /etc/default/flanneld"),
        "{said}"
    );
    assert_eq!(rpm(root, &["-V", "--nodeps", "rflannel"]), "");
    assert_eq!(
        fs::metadata(root.join(SCRIPT))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    assert!(
        fs::read_to_string(root.join(SCRIPT))
            .unwrap()
            .ends_with("rflannel mk-docker-opts \"$@\"\n")
    );
    let unpacked = format!(
        "gunzip <{}/usr/share/licenses/rflannel/third-party-licenses.gz",
        root.display()
    );
    assert_has_all_licenses(&must("sh", &["-c", &unpacked]));

    fs::write(root.join(SETTINGS), "FLANNEL_OPTIONS=-v=1\n").unwrap();
    let said = rpm(root, &["-U", "--nodeps", second]);
    assert!(!said.contains("not started"), "{said}");
    assert_eq!(
        rpm(root, &["-q", "rflannel"]).trim(),
        format!("rflannel-2.0-1.{}", std::env::consts::ARCH)
    );
    assert_eq!(
        fs::read_to_string(root.join(SETTINGS)).unwrap(),
        "FLANNEL_OPTIONS=-v=1\n"
    );
    rpm(root, &["-e", "--nodeps", "rflannel"]);
    assert!(
        !root.join("usr/bin/flanneld").exists()
            && root.join(format!("{SETTINGS}.rpmsave")).exists()
    );
}
