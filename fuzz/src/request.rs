//! Any text as a request on the status socket: the request, or a refusal that says how to ask.

use flanneld::status::report::Request;

pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Err(why) = Request::read(text) {
        assert!(why.contains("send one line"));
    }
}
