//! Places each option of a program as a flag or a field, according to the table of releases. Pure.

use super::yaml::{Yaml, to_file};
use super::{Draft, command};
use crate::argv::Word;
use crate::versions::{KubeVersion, Program};
use crate::{Effect, Error, FileKind, Model, Service};

/// A flag's name and value.
pub(super) type ProgramOption = (&'static str, Yaml);

/// The placed options of one program.
pub(super) struct Placed {
    /// On the command line.
    pub(super) flags: Vec<Word>,
    /// In the configuration file.
    pub(super) file: Yaml,
}

/// Puts options into the file if this release has a field for them, or onto the command line if it has a flag. If it has
/// neither, the program does it by default.
pub(super) fn place(
    program: Program,
    version: KubeVersion,
    head: &[(&str, &str)],
    options: Vec<ProgramOption>,
) -> Placed {
    let head = head
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Yaml::Text((*value).to_owned())));
    let mut placed = Placed {
        flags: Vec::new(),
        file: Yaml::Map(head.collect()),
    };
    for (name, value) in options {
        let Some(flag) = program.flag(name) else {
            continue;
        };
        match flag.field(version) {
            Some(path) => placed.file.set(path, value),
            None if flag.accepted(version) => placed
                .flags
                .push(format!("--{name}={}", value.to_flag()).into()),
            None => {}
        }
    }
    placed
}

/// Adds the configuration file, if this release has one, and returns the command line.
pub(super) fn configured(
    draft: &mut Draft,
    model: &Model,
    (program, service, unit): (Program, Service, &'static str),
    head: &[(&str, &str)],
    options: Vec<ProgramOption>,
) -> Result<String, Error> {
    let Placed { mut flags, file } = place(program, model.kubernetes, head, options);
    if model.kubernetes >= KubeVersion::FILES {
        let config = model.kubernetes_file(&format!("{}.yaml", program.name()));
        flags.insert(0, format!("--config={config}").into());
        draft.file(
            (service, FileKind::Config),
            &config,
            to_file(&file)?,
            Effect::Restart(unit),
        );
    }
    command(&model.program(program.name()), &flags)
}

/// Returns text as the value of an option.
pub(super) fn text(text: impl ToString) -> Yaml {
    Yaml::Text(text.to_string())
}

/// Returns an enabled feature gate, for a flag (`NAME=true`) or a field.
pub(super) fn gate(name: &str) -> ProgramOption {
    (
        "feature-gates",
        Yaml::Map(vec![(name.to_owned(), Yaml::Switch(true))]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_decides_flag_or_field() {
        let place = |minor| {
            let options = vec![
                ("address", text("10.0.0.1")),
                ("rotate-certificates", Yaml::Switch(true)),
                ("require-kubeconfig", Yaml::Switch(true)),
            ];
            let placed = place(
                Program::Kubelet,
                KubeVersion(minor),
                &[("kind", "K")],
                options,
            );
            let flags: Vec<String> = placed
                .flags
                .iter()
                .filter_map(Word::literal)
                .map(str::to_owned)
                .collect();
            (flags.join(" "), to_file(&placed.file).unwrap())
        };
        let flags = |text: &str, file: &str| (text.to_owned(), file.to_owned());
        assert_eq!(
            place(6),
            flags("--address=10.0.0.1 --require-kubeconfig=true", "kind: K\n")
        );
        assert_eq!(
            place(10),
            flags("--rotate-certificates=true", "kind: K\naddress: 10.0.0.1\n")
        );
        assert_eq!(
            place(35),
            flags("", "kind: K\naddress: 10.0.0.1\nrotateCertificates: true\n")
        );
    }
}
