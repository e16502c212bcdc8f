//! The first line of a managed file: says whose it is, and whether it was edited since: pure.

use super::file_state::Digest;

/// How the line begins, whatever it says then.
const START: &str = "# Managed by rflannel node-setup; ";
const HEAD: &str =
    "# Managed by rflannel node-setup; apply does not overwrite an edited file; sha256=";

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is not ours, or cannot say so.
    None,
    /// It is as we wrote it.
    Intact,
    /// It was ours and has been edited.
    Edited,
}

/// `body` with the marker in front.
pub fn mark(body: &str) -> String {
    format!("{HEAD}{}\n{body}", Digest::of(body.as_bytes()).as_str())
}

/// What a file's marker says.
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
