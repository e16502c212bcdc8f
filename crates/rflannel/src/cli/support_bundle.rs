//! Implements `rflannel support-bundle`: one file with what a bug report needs, without secrets.

mod gather;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Command, value_parser};
use flate2::Compression;
use flate2::write::GzEncoder;

use self::gather::Part;
use super::etcd_session::{self, CommandError, EXITS, say};
use super::{settings, value_arg};
use crate::admin::bundle;

pub fn command() -> Command {
    Command::new("support-bundle")
        .about("Collect what a bug report needs into one .tar.gz, without secrets")
        .after_help(EXITS)
        .args([
            value_arg("output", "FILE", "Output file, which must not exist; - is standard output [default: rflannel-HOST.tar.gz in this directory]")
                .short('o')
                .value_parser(value_parser!(PathBuf)),
            value_arg("unit", "NAME", "Unit of the daemon").default_value("flanneld.service"),
            value_arg("lines", "N", "Number of lines of its journal").default_value("5000").value_parser(value_parser!(u32)),
        ])
        .args(settings::args())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    etcd_session::end(make(matches).map(|()| ExitCode::SUCCESS))
}

fn make(matches: &ArgMatches) -> Result<(), CommandError> {
    let target = matches
        .get_one::<PathBuf>("output")
        .cloned()
        .unwrap_or_else(default_name);
    let is_stream = target.as_os_str() == "-";
    // Creates the file first, so that an unusable name is reported at once.
    let file = if is_stream {
        None
    } else {
        Some(create(&target)?)
    };
    let parts = gather::all(matches)?;
    let archive = pack(&parts)
        .map_err(|error| CommandError::Refused(format!("cannot pack the bundle: {error}")))?;
    match file {
        None => io::stdout()
            .write_all(&archive)
            .map_err(|error| failed(&target, &error)),
        Some(mut file) => {
            file.write_all(&archive)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed(&target, &error))?;
            say(&summary(&target, &parts, archive.len()))
        }
    }
}

fn default_name() -> PathBuf {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .collect();
    format!("rflannel-{host}.tar.gz").into()
}

/// Creates a file for this user only, and never overwrites one.
fn create(path: &Path) -> Result<std::fs::File, CommandError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Refused(format!(
        "cannot write {}: {error} (--output names another file)",
        path.display()
    ))
}

fn pack(parts: &[Part]) -> io::Result<Vec<u8>> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for Part { name, text, .. } in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(text.len() as u64);
        archive.append_data(
            &mut header,
            Path::new("rflannel").join(bundle::safe(name)),
            text.as_bytes(),
        )?;
    }
    archive.into_inner()?.finish()
}

fn summary(path: &Path, parts: &[Part], size: usize) -> String {
    let missing: Vec<&str> = parts
        .iter()
        .filter(|part| part.trouble.is_some())
        .map(|part| part.name.as_str())
        .collect();
    let mut text = format!(
        "{}: {} files, {} KiB. Known passwords, keys, and tokens are removed: look through it before you send it\n",
        path.display(),
        parts.len(),
        size.div_ceil(1024)
    );
    if !missing.is_empty() {
        text += &format!(
            "not available (MANIFEST says why): {}\n",
            missing.join(", ")
        );
    }
    text
}
