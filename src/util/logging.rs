//! Log lines on standard error: one line an event, readable by a person, by journald or (JSON) by a program.
//!
//! A thread of their own writes them: a reader that stalls, such as a full pipe, costs lines and never holds up the daemon.

mod queue;

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::Stat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use queue::{CAPACITY, Entry, Queue};
#[cfg(test)]
pub(crate) use tests::json_lines;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line per event for people: the message, then the fields that the message does not contain.
    #[default]
    Text,
    /// One JSON object per line, with the time and all fields.
    Json,
}

impl Format {
    /// Names of all formats, as `-log-format` takes them.
    pub const NAMES: [&str; 2] = ["text", "json"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What to log, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// The finest level of our own lines; other crates only warn.
    pub level: Level,
    pub format: Format,
}

impl Logging {
    /// `-v` counts as in glog: 0 logs changes, from 1 each operation, from 4 each message.
    pub fn new(verbosity: i64, format: Format) -> Self {
        let level = match verbosity {
            ..=0 => Level::INFO,
            1..=3 => Level::DEBUG,
            4.. => Level::TRACE,
        };
        Self { level, format }
    }
}

/// What stands before the level of a text line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The time, in UTC.
    Time,
    /// `<N>`, the syslog priority that journald reads; the journal has the time itself.
    Priority,
}

/// How long the end of the process waits for a reader of its last lines.
const FLUSH: Duration = Duration::from_millis(200);

/// The log of this process. `flush` waits a moment until the last lines are written.
#[derive(Debug)]
pub struct Log {
    queue: Arc<Queue>,
}

impl Log {
    pub fn flush(&self) {
        self.queue.flush(FLUSH);
    }
}

/// Sends all log lines of the process to standard error, its last words included.
pub fn start(logging: Logging) -> io::Result<Log> {
    let head = if stderr_is_journal() {
        Head::Priority
    } else {
        Head::Time
    };
    let ansi = head == Head::Time && io::stderr().is_terminal();
    let queue = Arc::new(Queue::new(CAPACITY));
    let (lines, last, reader) = (Arc::clone(&queue), Arc::clone(&queue), Arc::clone(&queue));
    // What the writing thread says itself goes straight to standard error.
    let direct = subscriber(logging, head, ansi, io::stderr);
    let write = move || {
        tracing::subscriber::with_default(direct, || write_lines(&reader, &mut io::stderr()))
    };
    thread::Builder::new().name("log".into()).spawn(write)?;
    let queued = subscriber(logging, head, ansi, move || Lines(Arc::clone(&lines)));
    tracing::subscriber::set_global_default(queued).map_err(io::Error::other)?;
    panic::set_hook(Box::new(move |panic| {
        last_words(panic);
        last.flush(FLUSH);
    }));
    Ok(Log { queue })
}

/// Writes what is queued, as long as the process lives.
fn write_lines(queue: &Queue, out: &mut impl io::Write) {
    loop {
        match queue.next() {
            // There is no other place to report that the log cannot be written.
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Lost(count) => {
                tracing::warn!(
                    count,
                    "{count} log lines were dropped here: the reader of standard error is too slow"
                );
            }
        }
    }
}

/// Takes each write as one line, as the formatter makes them.
struct Lines(Arc<Queue>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A panic is a line like any other, whichever thread it ends. The release build ends the process with it.
fn last_words(panic: &PanicHookInfo<'_>) {
    let text = panic.to_string().replacen(":\n", ": ", 1);
    tracing::error!(
        err = %text,
        "{text}; this is a bug in flanneld, please report it; packets keep flowing"
    );
}

/// systemd passes `device:inode` of its stream; a redirected child inherits the variable, not the stream.
fn stderr_is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| is_stream(&stream, &stat))
}

fn is_stream(stream: &str, stat: &Stat) -> bool {
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

fn subscriber<W>(
    logging: Logging,
    head: Head,
    ansi: bool,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let ours =
        ["rflannel", "flanneld"].map(|target| (target, LevelFilter::from_level(logging.level)));
    let levels = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(ours);
    // Reporting a failed write on the stream that just failed would panic.
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(ansi)
        .log_internal_errors(false);
    let layer = match logging.format {
        Format::Text => layer.event_format(Line { head }).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(levels).with(layer)
}

/// Writes `TIME LEVEL message field=value`, on one line whatever the message contains.
struct Line {
    head: Head,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        match self.head {
            Head::Priority => write!(out, "<{}>", priority(level))?,
            Head::Time => {
                SystemTime.format_time(&mut out)?;
                out.write_char(' ')?;
            }
        }
        match color(level).filter(|_| out.has_ansi_escapes()) {
            Some(color) => write!(out, "\x1b[{color}m{level}\x1b[0m ")?,
            None => write!(out, "{level} ")?,
        }
        let mut event_text = EventText::default();
        event.record(&mut event_text);
        let text = event_text.to_string();
        writeln!(out, "{}", one_line(&text))
    }
}

/// Field that holds an error with all its causes. Each message already contains the cause in short, so the text leaves it out.
const ERR: &str = "err";

/// The message of an event, and its other fields as text.
#[derive(Default)]
struct EventText {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}

impl fmt::Display for EventText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (name, value) in &self.fields {
            if *name == ERR || contains_value(&self.message, value) {
                continue;
            }
            if value.contains(|c: char| c.is_whitespace() || c == '"') {
                write!(f, " {name}={value:?}")?
            } else {
                write!(f, " {name}={value}")?
            }
        }
        Ok(())
    }
}

/// Returns whether `message` contains `value` as separate words.
fn contains_value(message: &str, value: &str) -> bool {
    const OPENING: &[char] = &['(', '"', '\'', '=', '['];
    const CLOSING: &[char] = &[')', '"', '\'', ']', '.', ',', ';', ':'];
    message.match_indices(value).any(|(at, _)| {
        let before = message.get(..at).unwrap_or_default();
        let after = message.get(at + value.len()..).unwrap_or_default();
        let before = before.trim_end_matches(OPENING);
        let after = after.trim_start_matches(CLOSING);
        (before.is_empty() || before.ends_with(char::is_whitespace))
            && (after.is_empty() || after.starts_with(char::is_whitespace))
    })
}

/// Formats an error with all its causes, joined by `: `. A cause that the text already contains is not repeated.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The number `syslog(3)` gives to a line of that level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// ANSI color of a level worth noticing.
fn color(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO | Level::DEBUG | Level::TRACE => None,
    }
}

/// Keys and values from etcd end up in messages: none of them can forge a second line or move the cursor.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::{LazyLock, Mutex};

    use proptest::prelude::*;

    use super::*;
    use crate::util::go_lines::GoLine;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(logging: Logging, head: Head, ansi: bool, say: impl FnOnce()) -> String {
        // With a single subscriber, tracing asks the thread that meets a line first whether anyone wants it, for all threads;
        // one of another test has none. With two it asks both.
        static SECOND: LazyLock<tracing::Dispatch> =
            LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&SECOND);
        let lines = Buffer::default();
        let writer = lines.clone();
        let subscriber = subscriber(logging, head, ansi, move || writer.clone());
        tracing::subscriber::with_default(subscriber, say);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn text(verbosity: i64, say: impl FnOnce()) -> String {
        logged(
            Logging::new(verbosity, Format::Text),
            Head::Priority,
            false,
            say,
        )
    }

    /// Returns what is logged as JSON on this thread.
    pub(crate) fn json_lines(verbosity: i64, say: impl FnOnce()) -> Vec<serde_json::Value> {
        let logging = Logging::new(verbosity, Format::Json);
        let lines = logged(logging, Head::Priority, false, say);
        let lines = lines.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn text_line_ends_with_the_fields_that_its_message_lacks() {
        let lines = text(0, || {
            let subnet = "172.30.15.0/24";
            tracing::info!(
                subnet,
                revision = 7,
                dev = "flannel.1",
                "Lease acquired: {subnet}"
            );
            tracing::warn!(
                count = 3,
                err = "a: b: c",
                entry = "two words",
                "from 172.30.3.0/24: a"
            );
        });
        assert_eq!(
            lines,
            "<6>INFO Lease acquired: 172.30.15.0/24 revision=7 dev=flannel.1\n\
             <4>WARN from 172.30.3.0/24: a count=3 entry=\"two words\"\n"
        );
    }

    /// Scripts and runbooks search for these lines, and some compare whole lines.
    #[test]
    fn lines_of_go_flannel_are_unchanged_and_end_with_the_message() {
        let lines: [(GoLine<'_>, &str); 13] = [
            (
                GoLine::NetworkConfig(&"vxlan"),
                "Found network config - Backend type: vxlan",
            ),
            (
                GoLine::Interface(&"eth0", &"10.0.0.1 and fd00::1"),
                "Using interface with name eth0 and address 10.0.0.1 and fd00::1",
            ),
            (
                GoLine::DefaultExternalAddress(&"10.0.0.1"),
                "Defaulting external address to interface address (10.0.0.1)",
            ),
            (
                GoLine::ExternalAddress(&"192.0.2.7"),
                "Using 192.0.2.7 as external address",
            ),
            (
                GoLine::Reusing(&"10.1.0.0/24", &"10.0.0.1"),
                "Found lease (10.1.0.0/24) for current IP (10.0.0.1), reusing",
            ),
            (
                GoLine::Picking(&"10.1.0.0", &"10.1.9.0"),
                "Picking subnet in range 10.1.0.0 ... 10.1.9.0",
            ),
            (
                GoLine::LeaseAcquired(&"10.1.0.0/24"),
                "Lease acquired: 10.1.0.0/24",
            ),
            (
                GoLine::SubnetFile(&"/run/flannel/subnet.env"),
                "Wrote subnet file to /run/flannel/subnet.env",
            ),
            (GoLine::RunningBackend, "Running backend."),
            (GoLine::WatchingLeases, "watching for new subnet leases"),
            (GoLine::BootstrapDone, "bootstrap done"),
            (GoLine::Ready, "flannel is ready"),
            (GoLine::Exiting, "Exiting cleanly..."),
        ];
        for (line, want) in lines {
            assert_eq!(text(0, || line.log()), format!("<6>INFO {want}\n"));
        }
    }

    #[test]
    fn value_counts_as_contained_only_as_separate_words() {
        let contained = [
            ("3 peers joined", "3"),
            ("in range 10.0.0.0 ... 10.9.0.0", "10.9.0.0"),
            ("address (10.0.0.1)", "10.0.0.1"),
            (
                "Lease acquired: 10.1.0.0/24 fd00::/64",
                "10.1.0.0/24 fd00::/64",
            ),
            ("flannel.1: was not there", "flannel.1"),
        ];
        for (message, value) in contained {
            assert!(contains_value(message, value), "{message}: {value}");
        }
        for (message, value) in [
            ("device flannel.1", "1"),
            ("at 10.0.0.12", "10.0.0.1"),
            ("", "x"),
        ] {
            assert!(!contains_value(message, value), "{message}: {value}");
        }
    }

    #[test]
    fn causes_are_joined_and_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write x: {0}")]
        struct Middle(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("no subnet file")]
        struct Top(#[source] Middle);
        let error = Top(Middle(io::Error::other("disk full")));
        assert_eq!(causes(&error), "no subnet file: cannot write x: disk full");
    }

    #[test]
    fn outside_the_journal_a_line_starts_with_the_time() {
        let line = logged(Logging::new(0, Format::Text), Head::Time, false, || {
            tracing::warn!("hi")
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert_eq!(rest, "WARN hi\n");
    }

    #[test]
    fn color_only_when_enabled() {
        let line = logged(Logging::new(0, Format::Text), Head::Time, true, || {
            tracing::error!("hi")
        });
        assert!(line.ends_with("\x1b[31mERROR\x1b[0m hi\n"), "{line}");
    }

    #[test]
    fn verbosity_chooses_levels_of_our_lines_only() {
        let say = || {
            tracing::trace!("t");
            tracing::debug!("d");
            tracing::info!("i");
            tracing::info!(target: "flanneld", "bin");
            tracing::info!(target: "h2", "foreign");
            tracing::warn!(target: "h2", "foreign");
        };
        let rows = [
            (-1, "<6>INFO i\n<6>INFO bin\n<4>WARN foreign\n"),
            (0, "<6>INFO i\n<6>INFO bin\n<4>WARN foreign\n"),
            (3, "<7>DEBUG d\n<6>INFO i\n<6>INFO bin\n<4>WARN foreign\n"),
            (
                4,
                "<7>TRACE t\n<7>DEBUG d\n<6>INFO i\n<6>INFO bin\n<4>WARN foreign\n",
            ),
        ];
        for (verbosity, want) in rows {
            assert_eq!(text(verbosity, say), want, "-v={verbosity}");
        }
    }

    #[test]
    fn json_lines_are_objects() {
        let objects = json_lines(0, || {
            let (subnet, count) = ("172.30.15.0/24", 7_usize);
            tracing::info!(subnet, count, err = "a: b", "Lease\nacquired: {subnet}");
        });
        let [object] = &objects[..] else {
            panic!("{objects:?}");
        };
        assert_eq!(object["message"], "Lease\nacquired: 172.30.15.0/24");
        assert_eq!(object["subnet"], "172.30.15.0/24");
        assert_eq!(object["count"], 7);
        assert_eq!(object["err"], "a: b");
        assert_eq!(object["level"], "INFO");
        assert!(object["timestamp"].is_string());
    }

    #[test]
    fn a_panic_is_one_line_with_its_place() {
        let lines = text(0, || {
            panic::set_hook(Box::new(last_words));
            let _ = panic::catch_unwind(|| panic!("no such peer\nat all"));
            drop(panic::take_hook());
        });
        assert!(
            lines.starts_with("<3>ERROR panicked at src/util/logging.rs:"),
            "{lines}"
        );
        assert!(lines.contains(": no such peer\\nat all; "), "{lines}");
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }

    #[test]
    fn the_journal_is_recognised_by_its_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert!(is_stream(
            &format!("{}:{}", stat.st_dev, stat.st_ino),
            &stat
        ));
        assert!(!is_stream(
            &format!("{}:{}", stat.st_dev, stat.st_ino + 1),
            &stat
        ));
        assert!(!is_stream("", &stat));
    }

    proptest! {
        #[test]
        fn no_message_makes_a_second_line(message: String) {
            let line = text(0, || tracing::info!(field = %message, "{message}"));
            let rest = line.strip_suffix('\n').unwrap();
            prop_assert!(!rest.contains(char::is_control));
        }
    }
}
