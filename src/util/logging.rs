//! Log lines on standard error: one line an event, readable by a person, by journald or (JSON) by a program.
//!
//! A thread of their own writes them: a reader that stalls, such as a full pipe, costs lines and never holds up the daemon.

mod queue;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::Stat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use queue::{CAPACITY, Entry, Queue};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Words for people, one line an event.
    #[default]
    Text,
    /// One JSON object a line, always with the time.
    Json,
}

impl Format {
    /// Names of all formats, as `-log-format` takes them.
    pub const NAMES: [&str; 2] = ["text", "json"];

    /// The format of that name.
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
    /// How a line is written.
    pub format: Format,
}

impl Logging {
    /// `-v` counts as in glog: 0 tells of changes, from 1 of each operation, from 4 of each message.
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
    /// Waits a moment until the last lines are written.
    pub fn flush(&self) {
        self.queue.flush(FLUSH);
    }
}

/// Sends all log lines of the process to standard error, its last words included.
///
/// # Errors
/// When logging has been started before, or the thread that writes cannot be started.
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
                    "{count} log lines were lost here: standard error was not read fast enough"
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
    tracing::error!("{text}. This is a mistake in the program, please report it; packets flow on");
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

/// `TIME LEVEL message field=value`, on one line whatever the message holds.
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
        ctx: &FmtContext<'_, S, N>,
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
        let mut text = String::new();
        ctx.format_fields(Writer::new(&mut text), event)?;
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span
                .extensions()
                .get::<FormattedFields<N>>()
                .filter(|f| !f.is_empty())
            {
                write!(text, " {fields}")?;
            }
        }
        writeln!(out, "{}", one_line(&text))
    }
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
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn a_line_can_be_grepped_and_ends_with_its_fields() {
        let lines = text(0, || {
            let _span = tracing::info_span!("peer", subnet = "172.30.16.0/24").entered();
            tracing::info!(lease = 7, "Lease acquired: {}", "172.30.15.0/24");
        });
        assert_eq!(
            lines,
            "<6>INFO Lease acquired: 172.30.15.0/24 lease=7 subnet=\"172.30.16.0/24\"\n"
        );
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
        let line = logged(Logging::new(0, Format::Json), Head::Priority, false, || {
            tracing::info!(subnet = "172.30.15.0/24", "Lease\nacquired");
        });
        let object: serde_json::Value = serde_json::from_str(line.trim_end_matches('\n')).unwrap();
        assert_eq!(object["message"], "Lease\nacquired");
        assert_eq!(object["subnet"], "172.30.15.0/24");
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
        assert!(lines.contains(": no such peer\\nat all. "), "{lines}");
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
