//! Explains why a flag, a file, or a warning exists. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use strsim::osa_distance;

use super::settings::SETTINGS;
use super::versions::{KubeVersion, Program};

/// Files and warnings, one paragraph each: the topic, `when: …`, and the reason.
const CHAPTERS: &str = include_str!("chapters.txt");
/// What the tutorial says, one `topic | sentence` a line.
const SENTENCES: &str = include_str!("sentences.txt");

struct Chapter {
    /// The name of a warning, or the end of a file's path.
    topic: &'static str,
    /// The releases or settings to which it applies.
    when: &'static str,
    /// The reason, and what to do, in lines.
    why: &'static str,
}

fn chapters() -> impl Iterator<Item = Chapter> {
    CHAPTERS.trim_end().split("\n\n").filter_map(|paragraph| {
        let (topic, rest) = paragraph.split_once("\nwhen: ")?;
        let (when, why) = rest.split_once('\n')?;
        Some(Chapter { topic, when, why })
    })
}

fn sentences() -> impl Iterator<Item = (&'static str, &'static str)> {
    SENTENCES.lines().filter_map(|line| line.split_once(" | "))
}

/// Explains a topic: a flag of kubelet or kube-proxy (with or without dashes), a setting, a file or the end of
/// its path, or the name of a warning. Returns `None` for an unknown topic.
pub fn explain(topic: &str) -> Option<String> {
    let name = topic
        .trim_start_matches('-')
        .split('=')
        .next()
        .unwrap_or_default()
        .trim();
    let mut out = String::new();
    for program in Program::ALL {
        out.push_str(&flag(program, name));
    }
    for setting in SETTINGS
        .iter()
        .filter(|setting| setting.name == name || setting.variables.contains(&name))
    {
        let _ = writeln!(
            out,
            "setting {} ({})\n  {}.",
            setting.name, setting.value, setting.help
        );
        if !setting.variables.is_empty() {
            let names = setting.variables.join(" or ");
            let _ = writeln!(
                out,
                "  The tutorial exports it as {names}, which --from-env reads."
            );
        }
    }
    for Chapter { topic, when, why } in chapters().filter(|chapter| is_about(chapter.topic, name)) {
        let why = why.replace('\n', " ");
        let _ = writeln!(out, "{topic}\n  {why}\n  Applies to: {when}.\n");
    }
    for (_, sentence) in sentences().filter(|(topic, _)| is_about(topic, name)) {
        let _ = writeln!(out, "  The tutorial: {sentence}");
    }
    (!out.is_empty()).then_some(out)
}

/// Returns the topics that differ from an unknown name by a few letters, or else those that contain it.
pub fn close_to(topic: &str) -> Vec<&'static str> {
    let word = topic
        .trim_start_matches('-')
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let distance = |name: &str| osa_distance(name.rsplit('/').next().unwrap_or_default(), &word);
    let least = topics().map(distance).min().unwrap_or_default();
    let is_near = least <= word.len() / 4;
    let is_part = |name: &str| {
        !word.is_empty() && (name.contains(&word) || name.len() > 3 && word.contains(name))
    };
    let found = topics().filter(|name| {
        if is_near {
            distance(name) == least
        } else {
            is_part(name)
        }
    });
    let found: BTreeSet<&str> = found.map(short).collect();
    found.into_iter().collect()
}

/// Returns the shortest form of a topic: for a file whose directory only distinguishes it, the name alone.
fn short(topic: &'static str) -> &'static str {
    if topic.starts_with('/') {
        topic.rsplit('/').next().unwrap_or(topic)
    } else {
        topic
    }
}

/// Returns all topics in groups, for a reader who does not know their names.
pub fn contents() -> String {
    let mut out = String::from("Topics (`rflannel node-setup explain TOPIC` explains one):\n");
    let mut group = |title: &str, names: BTreeSet<&'static str>| {
        let _ = writeln!(out, "\n{title}:");
        names.iter().for_each(|name| {
            let _ = writeln!(out, "  {}", short(name));
        });
    };
    group(
        "settings",
        SETTINGS.iter().map(|setting| setting.name).collect(),
    );
    let files = |is_file: bool| {
        let all = chapters().map(|chapter| chapter.topic);
        all.filter(|topic| FILE_ENDS.iter().any(|end| topic.ends_with(end)) == is_file)
            .collect()
    };
    group("files", files(true));
    group("warnings and settings of the runtime", files(false));
    for program in Program::ALL {
        group(
            &format!("flags of {}", program.name()),
            program.flags().iter().map(|flag| flag.name).collect(),
        );
    }
    out
}

const FILE_ENDS: [&str; 9] = [
    ".service",
    ".socket",
    ".conf",
    ".conflist",
    ".yaml",
    ".json",
    ".toml",
    ".link",
    ".network",
];

fn topics() -> impl Iterator<Item = &'static str> {
    let flags = Program::ALL
        .into_iter()
        .flat_map(|program| program.flags().iter().map(|flag| flag.name));
    let settings = SETTINGS.iter().map(|setting| setting.name);
    flags
        .chain(settings)
        .chain(chapters().map(|chapter| chapter.topic))
}

/// Returns whether `name` is a topic, the end of its path, or a path that ends in it.
fn is_about(topic: &str, name: &str) -> bool {
    let is_path = name.contains('/') && topic.contains(['.', '/']);
    topic == name || topic.ends_with(&format!("/{name}")) || is_path && name.ends_with(topic)
}

fn flag(program: Program, name: &str) -> String {
    let Some(flag) = program.flag(name) else {
        return String::new();
    };
    let mut out = format!(
        "{} --{}\n  {}\n  Available: {flag}.\n",
        program.name(),
        flag.name,
        flag.why
    );
    if flag.accepted(KubeVersion::NEWEST) {
        let _ = writeln!(out, "  {} still accepts it.", KubeVersion::NEWEST);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(topic: &str) -> String {
        explain(topic).unwrap_or_default()
    }

    #[test]
    fn a_topic_is_found_however_it_is_written() {
        for topic in [
            "--require-kubeconfig",
            "require_kubeconfig",
            "--require-kubeconfig=true",
        ] {
            assert!(text(topic).contains("removed in 1.10"), "{topic}");
        }
        assert!(
            text("cluster-cidr").contains("kube-proxy --cluster-cidr")
                && text("cluster-cidr").contains("The tutorial: ")
        );
        assert!(text("/etc/systemd/system/kubelet.service").contains("kubelet.service"));
        assert!(text("daemon.json").contains("merged"));
        assert!(text("ADDRESS").contains("setting node-ip"));
        assert_eq!(explain("nonsense"), None);
        assert_eq!(explain(""), None);
        assert!(close_to("require").contains(&"require-kubeconfig"));
        assert_eq!(close_to("deamon.json"), ["daemon.json"]);
        for name in close_to("daemon")
            .into_iter()
            .chain(close_to("flannel.con"))
        {
            assert!(explain(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_topic_has_an_answer_and_every_sentence_a_topic() {
        for topic in topics() {
            assert!(explain(topic).is_some(), "{topic}");
        }
        for (topic, _) in sentences() {
            assert!(topics().any(|known| known == topic), "{topic}");
        }
    }

    #[test]
    fn every_row_of_the_texts_has_its_parts() {
        for Chapter { topic, when, why } in chapters() {
            let complete = !topic.is_empty() && !when.is_empty() && why.ends_with('.');
            assert!(
                complete && !topic.contains('\n') && !when.ends_with('.'),
                "{topic}"
            );
        }
        assert_eq!(chapters().count(), CHAPTERS.split("\n\n").count());
        assert_eq!(sentences().count(), SENTENCES.lines().count());
    }
}
