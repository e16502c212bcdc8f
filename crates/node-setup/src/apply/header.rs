//! Defines the first line of a managed file, which shows that the file is managed and whether it was edited. Pure.

use super::file_state::Digest;

/// Beginning of the line in all versions.
const START: &str = "# Managed by rflannel node-setup; ";
const HEAD: &str =
    "# Managed by rflannel node-setup; apply does not overwrite an edited file; sha256=";

/// What the first line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The file is not managed, or its format has no comments.
    None,
    /// The file is as written.
    Intact,
    /// The file was edited.
    Edited,
}

/// Returns `body` with the header.
pub fn mark(body: &str) -> String {
    format!("{HEAD}{}\n{body}", Digest::of(body.as_bytes()).as_str())
}

/// Reads the header of a file.
pub fn read(bytes: &[u8]) -> Header {
    let Some(rest) = bytes.strip_prefix(START.as_bytes()) else {
        return Header::None;
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (line, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let digest = line.rsplit(|byte| *byte == b'=').next().unwrap_or_default();
    if Digest::of(body).as_str().as_bytes() == digest {
        Header::Intact
    } else {
        Header::Edited
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_marked_is_intact_until_it_is_edited(body in ".*", more in ".+") {
            let text = mark(&body);
            prop_assert_eq!(read(text.as_bytes()), Header::Intact);
            prop_assert_eq!(read(format!("{text}{more}").as_bytes()), Header::Edited);
            prop_assert_eq!(read(body.as_bytes()), Header::None);
        }
    }

    #[test]
    fn a_truncated_file_is_an_edited_one() {
        let text = mark("[Unit]\n");
        for end in HEAD.len()..text.len() {
            assert_eq!(read(&text.as_bytes()[..end]), Header::Edited, "{end}");
        }
    }
}
