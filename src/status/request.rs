//! What is asked on the status socket, and what is said to who asks for something else: pure, total.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    Status,
}

/// Why a request was not answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
}

/// Reads a request.
///
/// # Errors
/// What is wrong with it, and how to ask.
pub fn read(line: &str) -> Result<Request, String> {
    serde_json::from_str(line)
        .map_err(|error| format!("{error}: send one line, {{\"ask\":\"status\"}}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_what_clients_write() {
        let text = serde_json::to_string(&Request::Status).unwrap();
        assert_eq!(
            (text.as_str(), read(&text)),
            (r#"{"ask":"status"}"#, Ok(Request::Status))
        );
        for bad in [
            "",
            "{}",
            "null",
            "status",
            r#"{"ask":"Status"}"#,
            r#"{"ask":"status"}{"ask":"status"}"#,
        ] {
            assert!(
                read(bad)
                    .unwrap_err()
                    .ends_with("send one line, {\"ask\":\"status\"}"),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn total(text in ".*") {
            let _ = read(&text);
        }
    }
}
