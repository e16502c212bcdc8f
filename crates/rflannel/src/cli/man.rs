//! Implements `rflannel man`: the manual pages of both programs, generated from the tables that define their command lines.

mod daemon;
mod markdown;
mod text;
mod tool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{error, fs};

use clap::{Arg, ArgMatches, Command, value_parser};

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
            Arg::new("output")
                .long("output")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Directory in which man1 and man8 are created, such as /usr/local/share/man"),
            Arg::new("date")
                .long("date")
                .value_name("YYYY-MM-DD")
                .default_value("")
                .hide_default_value(true)
                .help("Date of the pages [default: none, so that the output is reproducible]"),
        ])
}

/// Runs the parsed subcommand; `tool` is the command of `rflannel`.
pub fn run(matches: &ArgMatches, tool: Command) -> ExitCode {
    match write(matches, tool) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn write(matches: &ArgMatches, tool: Command) -> Result<(), Box<dyn error::Error>> {
    let date = matches.get_one::<String>("date").map_or("", String::as_str);
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
