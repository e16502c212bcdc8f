//! Renders the pages of `docs/reference/commands` from the tables that the manual pages are made from. Pure.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::text::Line;
use super::tool::{Parts, parts, visible};
use crate::cli::examples;

/// Returns the name and text of each page: one for each command of `tool`, with its subcommands as sections, and a list of them.
pub fn pages(tool: Command) -> Vec<(String, String)> {
    let mut tool = tool.disable_help_subcommand(true);
    tool.build();
    let mut list = String::from(
        "# Commands\n\nThis page lists the commands of `rflannel`. It and the pages of the commands are generated from the same \
         source as\n`--help` and the manual pages. For `flanneld`, see [Flags and variables](../flags.md).\n\n\
         | command | what it does |\n| --- | --- |\n",
    );
    let mut pages = Vec::new();
    for command in visible(&tool) {
        let name = full_name(command);
        let file = format!("{}.md", name.replace(' ', "-"));
        let _ = writeln!(list, "| [`{name}`]({file}) | {} |", cell(&about(command)));
        let mut text = String::new();
        section(&mut text, command, 1);
        pages.push((file, text));
    }
    pages.push(("README.md".to_owned(), list));
    pages
}

fn full_name(command: &Command) -> String {
    command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned()
}

fn about(command: &Command) -> String {
    command
        .get_long_about()
        .or_else(|| command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Appends what a command does, its options, and its subcommands.
fn section(out: &mut String, command: &Command, level: usize) {
    let marks = "#".repeat(level);
    let usage = command.clone().render_usage().to_string();
    let _ = write!(
        out,
        "{marks} {}\n\n{}.\n\n",
        full_name(command),
        escaped(&about(command))
    );
    let _ = write!(out, "```text\n{}\n```\n", usage.trim());
    options(out, command, level);
    let help = examples::rest(command);
    let Parts {
        examples,
        notes,
        exits,
    } = parts(&help);
    if !examples.trim().is_empty() {
        let lines: String = examples
            .lines()
            .map(|line| format!("{}\n", line.trim()))
            .collect();
        let _ = write!(out, "\nExamples:\n\n```text\n{lines}```\n");
    }
    prose(out, notes);
    if !exits.trim().is_empty() {
        out.push_str("\nExit codes:\n");
        prose(out, exits);
    }
    for subcommand in visible(command) {
        out.push('\n');
        section(out, subcommand, level + 1);
    }
}

/// Appends a table of options. Inherited options are in the table of the parent.
fn options(out: &mut String, command: &Command, level: usize) {
    let is_own = |arg: &&Arg| !arg.is_hide_set() && (level == 1 || !arg.is_global_set());
    let args = command.get_arguments().filter(is_own);
    let args: Vec<&Arg> = args
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .collect();
    if level > 1 && command.get_arguments().any(Arg::is_global_set) {
        let name = full_name(command);
        let parent = name.rsplit_once(' ').map_or("", |(parent, _)| parent);
        let _ = writeln!(out, "\nThe options of `{parent}` apply as well.");
    }
    if args.is_empty() {
        return;
    }
    out.push_str("\n| option | default | meaning |\n| --- | --- | --- |\n");
    for arg in args {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} |",
            arg.to_string().replace('|', "\\|"),
            default(arg),
            cell(&meaning(arg))
        );
    }
}

fn default(arg: &Arg) -> String {
    let is_told = !arg.is_hide_default_value_set() && arg.get_action().takes_values();
    let values = arg.get_default_values().iter().filter(|_| is_told);
    values
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn meaning(arg: &Arg) -> String {
    let help = arg
        .get_long_help()
        .or_else(|| arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let words: Vec<String> =
        if arg.is_hide_possible_values_set() || !arg.get_action().takes_values() {
            Vec::new()
        } else {
            arg.get_possible_values()
                .iter()
                .map(|value| format!("`{}`", value.get_name()))
                .collect()
        };
    if words.is_empty() {
        help
    } else {
        format!("{help}. One of {}", words.join(", "))
    }
}

/// Appends help text: paragraphs, lists, and tables of terms.
fn prose(out: &mut String, text: &str) {
    #[derive(PartialEq)]
    enum Last {
        Gap,
        Text,
        Item,
        Row,
    }
    let mut last = Last::Gap;
    out.push('\n');
    for line in text.lines() {
        let kind = match Line::read(line) {
            Line::Empty => Last::Gap,
            Line::Plain(_) => Last::Text,
            Line::Item(_) => Last::Item,
            Line::Term(..) => Last::Row,
        };
        if kind != last && last != Last::Gap {
            out.push('\n');
        }
        match Line::read(line) {
            Line::Empty => {}
            Line::Plain(text) => drop(writeln!(out, "{}", escaped(text))),
            Line::Item(text) => drop(writeln!(out, "* {}", escaped(text))),
            Line::Term(term, text) => {
                if last != Last::Row {
                    out.push_str("| | |\n| --- | --- |\n");
                }
                let _ = writeln!(out, "| `{}` | {} |", term.trim(), cell(text));
            }
        }
        last = kind;
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
}

fn cell(text: &str) -> String {
    escaped(text)
        .replace('|', "\\|")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn escaped(text: &str) -> String {
    text.replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_paragraphs_lists_and_tables() {
        let mut out = String::new();
        prose(
            &mut out,
            "Ends <so>:\n\n  0   fine\n  64  a|b\nMore.\n\nAlso:\n  - one thing\n\n",
        );
        let want = "\nEnds &lt;so>:\n\n| | |\n| --- | --- |\n| `0` | fine |\n| `64` | a\\|b |\n\nMore.\n\nAlso:\n\n* one thing\n";
        assert_eq!(out, want);
    }
}
