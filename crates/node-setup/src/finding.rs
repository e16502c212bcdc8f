//! Defines findings of checks. Pure.

use serde::Serialize;

use flanneld::util::table::count;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warning,
    Error,
}

impl Level {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the check, for `--ignore`.
    pub id: &'static str,
    pub level: Level,
    pub found: String,
    /// What was expected; empty if that was found.
    pub expected: String,
    /// How to fix it; empty if there is nothing to fix.
    pub fix: String,
}

impl Finding {
    /// Creates a finding without a problem.
    pub fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self {
            id,
            level: Level::Ok,
            found: found.into(),
            expected: String::new(),
            fix: String::new(),
        }
    }

    /// Creates a finding about something that may work.
    pub fn warning(
        id: &'static str,
        found: impl Into<String>,
        expected: &str,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Warning,
            ..Self::error(id, found, expected, fix)
        }
    }

    /// Creates a finding about something that cannot work.
    pub fn error(
        id: &'static str,
        found: impl Into<String>,
        expected: &str,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Error,
            expected: expected.into(),
            fix: fix.into(),
            ..Self::ok(id, found)
        }
    }
}

/// Returns `findings`, or that everything is as expected if there are none.
pub fn or_ok(findings: Vec<Finding>, id: &'static str, found: impl Into<String>) -> Vec<Finding> {
    if findings.is_empty() {
        vec![Finding::ok(id, found)]
    } else {
        findings
    }
}

/// Returns the exit status of a check: 0 without problems, 1 for warnings if `strict`, 3 for errors.
pub fn exit_status(findings: &[Finding], strict: bool) -> u8 {
    match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Error) => 3,
        Some(Level::Warning) if strict => 1,
        Some(Level::Warning | Level::Ok) | None => 0,
    }
}

/// Counts the problems and names them on one line.
pub fn summary<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> String {
    let mut wrong: Vec<&Finding> = findings
        .into_iter()
        .filter(|finding| finding.level != Level::Ok)
        .collect();
    wrong.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let words = [
        (Level::Error, "error", "errors"),
        (Level::Warning, "warning", "warnings"),
    ];
    let counts = words.map(|(level, one, several)| {
        let number = wrong
            .iter()
            .filter(|finding| finding.level == level)
            .count();
        (number > 0).then(|| count(number, one, several))
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if counts.is_empty() {
        return "no errors, no warnings".into();
    }
    let mut names: Vec<&str> = Vec::new();
    for finding in &wrong {
        if !names.contains(&finding.id) {
            names.push(finding.id);
        }
    }
    format!("{}: {}", counts.join(", "), names.join(", "))
}

/// Formats findings for people: problems first, each with its fix.
pub fn table(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    sorted.into_iter().map(row).collect()
}

/// Column where the text of a finding begins.
pub const INDENT: usize = 30;

fn row(finding: &Finding) -> String {
    let Finding {
        id,
        level,
        found,
        expected,
        fix,
    } = finding;
    let more = |label: &str, text: &str| match text {
        "" => String::new(),
        text => format!("{:INDENT$}{label}: {text}\n", ""),
    };
    format!(
        "{:8} {id:20} {found}\n{}{}",
        level.word(),
        more("expected", expected),
        more("fix", fix)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_the_worst() {
        let (ok, bad) = (Finding::ok("a", ""), Finding::error("c", "", "", ""));
        let warning = Finding::warning("b", "", "", "");
        for (findings, strict, status) in [
            (vec![], true, 0),
            (vec![ok.clone()], true, 0),
            (vec![warning.clone(), ok.clone()], false, 0),
            (vec![warning.clone()], true, 1),
            (vec![ok, bad, warning], false, 3),
        ] {
            assert_eq!(exit_status(&findings, strict), status, "{findings:?}");
        }
    }

    #[test]
    fn summary_counts_and_names_what_is_wrong() {
        let warning = Finding::warning("b", "", "", "");
        let bad = Finding::error("c", "", "", "");
        for (findings, line) in [
            (vec![], "no errors, no warnings"),
            (vec![Finding::ok("a", "")], "no errors, no warnings"),
            (vec![Finding::ok("a", ""), warning.clone()], "1 warning: b"),
            (
                vec![warning.clone(), bad.clone(), warning, bad],
                "2 errors, 2 warnings: c, b",
            ),
        ] {
            assert_eq!(summary(&findings), line);
        }
    }

    #[test]
    fn trouble_comes_first_with_its_remedy() {
        let table = table(&[
            Finding::ok("swap", "off"),
            Finding::error(
                "node-ip",
                "1.2.3.4 is on no interface",
                "an own address",
                "set it",
            ),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[0].starts_with("error    node-ip") && lines[3].starts_with("ok       swap"),
            "{table}"
        );
        assert!(
            lines[1].trim_start().starts_with("expected: an own")
                && lines[2].ends_with("fix: set it")
        );
    }
}
