//! Implements `rflannel man`: the manual pages of both programs, generated from the tables that define their command lines.

mod daemon;
mod markdown;
mod text;
mod tool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{error, fs};

use clap::{ArgMatches, Command, value_parser};

use super::etcd_session::{self, CommandError};
use super::value_arg;
pub use markdown::pages as markdown_pages;

struct Page {
    /// Name, such as `rflannel-lab-up`.
    name: String,
    /// Section: 1 for the tool, 8 for the daemon.
    section: &'static str,
    /// Source in roff.
    text: Vec<u8>,
}

/// Source in the footer of every page.
const SOURCE: &str = concat!("rflannel ", env!("CARGO_PKG_VERSION"));

pub fn command() -> Command {
    Command::new("man")
        .about("Write the manual pages of rflannel and flanneld")
        .args([
            value_arg(
                "output",
                "DIR",
                "Directory in which man1 and man8 are created, such as /usr/local/share/man",
            )
            .required(true)
            .value_parser(value_parser!(PathBuf)),
            value_arg(
                "date",
                "YYYY-MM-DD",
                "Date of the pages [default: none, so that the output is reproducible]",
            )
            .default_value("")
            .hide_default_value(true),
        ])
}

/// Runs the parsed subcommand; `tool` is the command of `rflannel`.
pub fn run(matches: &ArgMatches, tool: Command) -> ExitCode {
    let done = write(matches, tool).map(|()| ExitCode::SUCCESS);
    etcd_session::end(done.map_err(|error| CommandError::Refused(error.to_string())))
}

fn write(matches: &ArgMatches, tool: Command) -> Result<(), Box<dyn error::Error>> {
    let date = super::text(matches, "date");
    let output = matches
        .get_one::<PathBuf>("output")
        .map_or(Path::new("."), PathBuf::as_path);
    let pages = tool::pages(tool, date)?;
    for page in pages.iter().chain([&daemon::page(date)]) {
        let dir = output.join(format!("man{}", page.section));
        let file = dir.join(format!("{}.{}", page.name, page.section));
        let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&file, &page.text));
        written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}
