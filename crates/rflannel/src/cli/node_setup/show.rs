//! Formats a plan as text. Pure.

use std::fmt::Write as _;
use std::path::Path;

use node_setup::Plan;

/// Formats every file with its content, then directories and units.
pub(super) fn files(plan: &Plan) -> String {
    let mut out = String::new();
    for file in &plan.files {
        let _ = writeln!(
            out,
            "==> {} ({:04o}, {})\n{}",
            file.path.display(),
            file.mode,
            file.service,
            file.content
        );
    }
    let _ = writeln!(out, "==> directories");
    for directory in &plan.directories {
        let _ = writeln!(out, "{} ({:04o})", directory.path.display(), directory.mode);
    }
    let _ = writeln!(out, "\n==> units, in the order they start");
    for unit in &plan.units {
        let _ = writeln!(
            out,
            "{}{}",
            unit.name,
            if unit.ours { "" } else { " (the package's)" }
        );
    }
    out
}

/// Lists the files that were written below a directory.
pub(super) fn written(dir: &Path, plan: &Plan) -> String {
    let below = |path: &Path| dir.join(path.strip_prefix("/").unwrap_or(path));
    plan.files
        .iter()
        .map(|file| format!("{}\n", below(&file.path).display()))
        .collect()
}

/// Formats warnings and next steps.
pub(super) fn notes(plan: &Plan) -> String {
    let mut out = String::new();
    if !plan.warnings.is_empty() {
        out.push_str("\n==> warnings (`rflannel node-setup explain NAME` explains each)\n");
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "{}: {}", warning.id, warning.text);
    }
    if !plan.next_steps.is_empty() {
        out.push_str("\n==> next steps, by hand\n");
    }
    for step in &plan.next_steps {
        let _ = writeln!(out, "{step}");
    }
    out
}
