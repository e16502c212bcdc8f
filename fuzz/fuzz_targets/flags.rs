//! Any command line, NUL between two arguments, is run or explained on one line.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use libfuzzer_sys::fuzz_target;
use flanneld::cli::flanneld::{Parsed, parse};

fuzz_target!(|data: &[u8]| {
    let args = data
        .split(|byte| *byte == 0)
        .map(|arg| OsString::from_vec(arg.to_vec()));
    if let Parsed::Show { text, code: 2 } = parse(args, []) {
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }
});
