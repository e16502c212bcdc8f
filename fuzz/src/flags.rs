//! Any command line, NUL between two arguments, is run or explained on one line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use flanneld::cli::flanneld::{Parsed, parse};

pub fn run(data: &[u8]) {
    let args = data
        .split(|byte| *byte == 0)
        .map(|arg| OsString::from_vec(arg.to_vec()));
    if let Parsed::Wrong(mistake) = parse(args, []) {
        let text = mistake.to_string();
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }
}
