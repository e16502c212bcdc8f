//! Reads what already exists on a host and affects its plan. Changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Error;
use super::distribution::Distribution;
use super::unit::Unit;
use super::versions::SystemdVersion;
use flanneld::util::env_file;

/// Directories of packaged units, in order of precedence.
const VENDOR_UNITS: [&str; 3] = [
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// Size limit of these files.
const LARGEST: u64 = 1 << 20;
/// Paths of systemd, and a size limit for it.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];
const LARGEST_PROGRAM: u64 = 32 << 20;

const OS_RELEASE: &str = "/etc/os-release";

/// Where programs are looked for.
pub(crate) const SEARCH_PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

pub const DAEMON_JSON: &str = "/etc/docker/daemon.json";
pub const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// What a plan needs to know about its host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Text of the unit from docker's package.
    pub docker_unit: Option<String>,
    /// Variables that this unit sets for docker, including those of its `EnvironmentFile=`.
    pub docker_environment: BTreeMap<String, String>,
    /// Whether containerd's package has a unit.
    pub containerd_unit: bool,
    pub daemon_json: Option<String>,
    pub containerd_config: Option<String>,
    pub network_manager: bool,
    pub networkd: bool,
    /// The distribution, if its packages are known.
    pub distribution: Option<Distribution>,
    /// The version of systemd, if it is installed.
    pub systemd: Option<u16>,
    /// Whether systemd is in `/lib` and not in `/usr/lib`, because the directories are not merged.
    pub split_usr: bool,
}

impl Host {
    /// Reads the host whose files are below `root`. Fails if an existing file cannot be read, because a plan without it would be wrong.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let vendor = |unit: &str| vendor(root, unit);
        let docker_unit = vendor("docker.service")?;
        Ok(Self {
            docker_environment: docker_unit
                .as_deref()
                .map_or(Ok(BTreeMap::new()), |unit| environment(root, unit))?,
            docker_unit,
            containerd_unit: vendor("containerd.service")?.is_some(),
            daemon_json: text(root, DAEMON_JSON)?,
            containerd_config: text(root, CONTAINERD_CONFIG)?,
            network_manager: vendor("NetworkManager.service")?.is_some(),
            networkd: vendor("systemd-networkd.service")?.is_some(),
            distribution: text(root, OS_RELEASE)?
                .as_deref()
                .and_then(Distribution::from_os_release),
            systemd: installed_systemd(root),
            split_usr: SYSTEMD.map(|path| root.join(path).is_file()) == [false, true],
        })
    }
}

/// Returns the version of systemd below `root`.
pub fn installed_systemd(root: &Path) -> Option<u16> {
    SYSTEMD
        .iter()
        .find_map(|path| systemd_version(&root.join(path)))
        .map(|version| version.0)
}

fn vendor(root: &Path, unit: &str) -> Result<Option<String>, Error> {
    for dir in VENDOR_UNITS {
        if let Some(text) = text(root, &format!("/{dir}/{unit}"))? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Returns the variables of a unit's service. A file takes precedence over `Environment=`.
fn environment(root: &Path, unit: &str) -> Result<BTreeMap<String, String>, Error> {
    let unit = Unit::parse(unit);
    let assignments = unit.values("Service", "Environment");
    let assignments = assignments
        .iter()
        .flat_map(|line| shlex::split(line).unwrap_or_default());
    let pairs = assignments.filter_map(|pair| {
        pair.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let mut found: BTreeMap<String, String> = pairs.collect();
    for path in unit.values("Service", "EnvironmentFile") {
        if let Some(text) = text(root, path.trim_start_matches('-'))? {
            found.extend(env_file::parse(&text).0);
        }
    }
    Ok(found)
}

/// Returns the version that the program logs when it starts (`systemd 252.38-1 running in …`). The program is not run, because it may
/// be for another machine.
fn systemd_version(program: &Path) -> Option<SystemdVersion> {
    const WORD: &[u8] = b"systemd ";
    let size = fs::metadata(program).ok()?.len();
    let bytes = (size <= LARGEST_PROGRAM)
        .then(|| fs::read(program).ok())
        .flatten()?;
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.windows(WORD.len()).position(|window| window == WORD) {
        rest = rest.get(at + WORD.len()..)?;
        let line = rest.split(|byte| *byte < b' ').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or_default());
        if let Some((version, _)) = line.split_once(" running in ") {
            return version.parse().ok();
        }
    }
    None
}

/// Returns the text of a file; `None` if it does not exist.
fn text(root: &Path, path: &str) -> Result<Option<String>, Error> {
    let file = root.join(path.trim_start_matches('/'));
    let wrong = |why: String| Error::present(path, why);
    match fs::metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
        Ok(found) if found.is_dir() => {
            return Err(wrong("is a directory: move it elsewhere".into()));
        }
        Ok(found) if found.len() > LARGEST => {
            return Err(wrong(format!(
                "has {} bytes, which is too large",
                found.len()
            )));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(&file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| wrong("is not UTF-8 text: correct it first".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_and_what_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Host::read(root.path()), Ok(Host::default()));
        let write = |path: &str, text: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib/systemd/system/docker.service", b"old");
        write("usr/lib/systemd/system/docker.service", b"new");
        write("usr/lib/systemd/system/NetworkManager.service", b"");
        write("etc/docker/daemon.json", b"{}");
        let host = Host::read(root.path()).unwrap();
        assert_eq!(
            (host.docker_unit.as_deref(), host.daemon_json.as_deref()),
            (Some("new"), Some("{}"))
        );
        assert!(host.network_manager && !host.networkd && !host.containerd_unit);
        write("etc/docker/daemon.json", b"\xff");
        assert!(
            Host::read(root.path())
                .unwrap_err()
                .to_string()
                .contains("daemon.json: is not UTF-8 text")
        );
        write("etc/containerd/config.toml/x", b"");
        write("etc/docker/daemon.json", b"");
        assert!(
            Host::read(root.path())
                .unwrap_err()
                .to_string()
                .contains("is a directory")
        );
    }

    #[test]
    fn systemd_version_is_read_from_its_program() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("lib/systemd/systemd");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        for (bytes, want) in [
            (
                &b"\x7fELF\0systemd \0systemd 219\0systemd 219 running in %ssystem mode. (%s)\0x"[..],
                Some(219),
            ),
            (
                b"systemd 252.38-1~deb12u1 running in %ssystem mode",
                Some(252),
            ),
            (b"systemd-journald 252 running in", None),
            (b"", None),
        ] {
            fs::write(&program, bytes).unwrap();
            let host = Host::read(root.path()).unwrap();
            assert_eq!((host.systemd, host.split_usr), (want, true));
        }
        fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
        fs::write(root.path().join("usr/lib/systemd/systemd"), "").unwrap();
        assert!(!Host::read(root.path()).unwrap().split_usr);
    }
}
