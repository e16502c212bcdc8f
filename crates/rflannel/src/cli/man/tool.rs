//! Renders the pages of `rflannel`: its own page, one for each subcommand at any depth, and one for the link `mk-docker-opts.sh`. Pure.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::super::examples::{self, HEADING};
use super::{Page, SOURCE, text};

/// Beginning of the part of the help that lists exit codes.
const EXITS: &str = "Exit codes";

/// An empty line as clap_mangen writes it. Formatters complain about it.
const TWO_BREAKS: &str = ".br\n\n.br\n";

/// The page with the script's name includes the subcommand's page.
const SCRIPT: (&str, &str) = ("mk-docker-opts.sh", ".so man1/rflannel-mk-docker-opts.1\n");

pub(super) fn pages(tool: Command, date: &str) -> io::Result<Vec<Page>> {
    let mut tool = tool
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true);
    tool.build();
    let mut pages = vec![Page {
        name: SCRIPT.0.into(),
        section: "1",
        text: SCRIPT.1.into(),
    }];
    descend(&tool, None, date, &mut pages)?;
    Ok(pages)
}

fn descend(
    command: &Command,
    parent: Option<&str>,
    date: &str,
    pages: &mut Vec<Page>,
) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let text = page(command, &name, parent, date)?;
    pages.push(Page {
        name: name.clone(),
        section: "1",
        text,
    });
    visible(command).try_for_each(|subcommand| descend(subcommand, Some(&name), date, pages))
}

pub(super) fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
}

fn page(command: &Command, name: &str, parent: Option<&str>, date: &str) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(name)
        .date(date)
        .source(SOURCE)
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    after(&mut rest, command);
    see_also(&mut rest, parent);
    page.extend(rest.render().into_bytes());
    Ok(String::from_utf8_lossy(&page)
        .replace(TWO_BREAKS, ".sp\n")
        .into_bytes())
}

/// Parts of the help text after the options.
pub(super) struct Parts<'a> {
    pub examples: &'a str,
    /// The part before the exit codes.
    pub notes: &'a str,
    pub exits: &'a str,
}

pub(super) fn parts(help: &str) -> Parts<'_> {
    let (examples, help) = match help.strip_prefix(HEADING) {
        Some(rest) => rest
            .split_once("\n\n")
            .map_or((rest, ""), |(examples, rest)| (examples, rest)),
        None => ("", help),
    };
    let (notes, exits) = match help.split_once(EXITS) {
        Some((notes, exits)) => (
            notes,
            exits.split_once(":\n").map_or("", |(_, exits)| exits),
        ),
        None => (help, ""),
    };
    Parts {
        examples,
        notes,
        exits,
    }
}

/// Appends the help text after the options.
fn after(roff: &mut Roff, command: &Command) {
    let help = examples::rest(command);
    let Parts {
        examples,
        notes,
        exits,
    } = parts(&help);
    let is_usage = command.get_arguments().next().is_none() && !command.has_subcommands();
    let heading = if is_usage { "OPTIONS" } else { "NOTES" };
    for (heading, text) in [(heading, notes), ("EXIT STATUS", exits)] {
        if !text.trim().is_empty() {
            text::append(roff.control("SH", [heading]), text);
        }
    }
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        for (place, line) in examples.lines().enumerate() {
            if place > 0 {
                roff.control("PP", []);
            }
            roff.text([bold(line.trim())]);
        }
    }
}

fn see_also(roff: &mut Roff, parent: Option<&str>) {
    roff.control("SH", ["SEE ALSO"]);
    let parent = parent
        .into_iter()
        .flat_map(|parent| [bold(parent), roman("(1), ")]);
    roff.text(
        parent
            .chain([bold("flanneld"), roman("(8)")])
            .collect::<Vec<_>>(),
    );
}
