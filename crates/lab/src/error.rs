//! Defines the errors of a lab, each with a remedy.

use std::fmt::Display;

/// Why a lab, or a step in it, failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces need root.
    #[error("a lab is made of network namespaces and needs root: run it with sudo")]
    NotRoot,
    #[error("{tool} is not installed: run scripts/setup, or apt-get install {package}")]
    MissingTool {
        /// The program that was searched in PATH.
        tool: &'static str,
        /// The Debian package that contains it.
        package: &'static str,
    },
    #[error("{0}")]
    BadOption(String),
    /// A step failed on one node of the lab.
    #[error("cannot {step} on {node}: {why}{}", tail(log))]
    Failed {
        /// Host, pod, etcd member, or the lab itself.
        node: String,
        step: String,
        /// Why it failed and, if known, what to do.
        why: String,
        /// Last lines of the log of the failed program; empty if there is none.
        log: Vec<String>,
    },
}

impl LabError {
    /// Returns the error of a failed step without a log.
    pub fn failed(node: &str, step: impl Into<String>, why: impl Display) -> Self {
        Self::Failed {
            node: node.into(),
            step: step.into(),
            why: why.to_string(),
            log: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_log(mut self, lines: Vec<String>) -> Self {
        if let Self::Failed { log, .. } = &mut self {
            *log = lines;
        }
        self
    }
}

fn tail(log: &[String]) -> String {
    log.iter().map(|line| format!("\n    | {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_node_step_cause_and_log() {
        let error = LabError::failed("h2", "start flanneld", "it exited with status 2")
            .with_log(vec!["one".into(), "two".into()]);
        let text = "cannot start flanneld on h2: it exited with status 2\n    | one\n    | two";
        assert_eq!(error.to_string(), text);
    }
}
