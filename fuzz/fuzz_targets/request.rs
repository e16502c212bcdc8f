//! Any text as a request on the status socket: the request, or a refusal that says how to ask.
#![no_main]

use libfuzzer_sys::fuzz_target;
use flanneld::status::request::read;

fuzz_target!(|text: &str| {
    if let Err(why) = read(text) {
        assert!(why.contains("ask with one line"));
    }
});
