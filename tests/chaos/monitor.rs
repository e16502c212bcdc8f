//! Asks every daemon again and again, and checks what must hold at all times.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::{Status, World};
use crate::invariants::{self, Overlaps};

/// Between two rounds of questions.
const PERIOD: Duration = Duration::from_millis(300);
/// A daemon answers within this time, not counting the time for which it or the run waited for a processor.
const ANSWER: Duration = Duration::from_secs(1);
/// How long an answer is waited for at all, to tell a slow daemon from a stuck one.
const GIVE_UP: Duration = Duration::from_secs(5);

/// The thread that asks. Ends when it is dropped.
pub struct Monitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    pub fn begin(world: Arc<Mutex<World>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut overlaps = Overlaps::default();
            while !ended.load(Ordering::Relaxed) {
                round(&world, &mut overlaps);
                std::thread::sleep(PERIOD);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A daemon that is asked.
struct Question {
    index: usize,
    epoch: u32,
    socket: PathBuf,
    pid: u32,
    /// It must answer. If not, it started or went on a moment ago.
    is_due: bool,
}

fn round(world: &Mutex<World>, overlaps: &mut Overlaps) {
    let lock = || world.lock().unwrap_or_else(PoisonError::into_inner);
    let questions = {
        let mut world = lock();
        invariants::no_daemon_ends(&mut world);
        invariants::ready_means_own_subnet(&mut world);
        questions(&mut world)
    };
    for question in questions {
        let answer = ask(&question);
        let mut world = lock();
        if world.hosts[question.index].epoch == question.epoch {
            judge(&mut world, &question, answer);
        }
    }
    let mut world = lock();
    invariants::no_two_hosts_share_a_subnet(&mut world, overlaps);
    invariants::addresses_are_on_their_hosts(&mut world);
    invariants::resources_are_bounded(&mut world);
}

fn questions(world: &mut World) -> Vec<Question> {
    let now = Instant::now();
    let asked = world
        .hosts
        .iter_mut()
        .enumerate()
        .filter(|(_, host)| !host.is_other && !host.is_suspended);
    let asked = asked.filter_map(|(index, host)| {
        let pid = host.daemon.as_mut()?.process().pid()?;
        let socket = host.node.path("/run/flannel/subnet.sock");
        Some(Question {
            index,
            epoch: host.epoch,
            socket,
            pid,
            is_due: host.due <= now,
        })
    });
    asked.collect()
}

fn judge(world: &mut World, question: &Question, (answer, took): (io::Result<Status>, Duration)) {
    let host = &mut world.hosts[question.index];
    let name = host.name().to_owned();
    match answer {
        Ok(status) if took <= ANSWER || !question.is_due => {
            let before = host.status.replace(status);
            invariants::published_address_is_kept(world, question.index, before.as_ref());
        }
        Err(_) if !question.is_due => {}
        Ok(_) => world.broken(format!(
            "{name}: the status socket took {took:.1?} to answer"
        )),
        Err(error) => world.broken(format!(
            "{name}: the status socket does not answer: {error}"
        )),
    }
}

/// The answer, and the time that it took, without the time spent in the processors' queues.
fn ask(question: &Question) -> (io::Result<Status>, Duration) {
    let daemon = PathBuf::from(format!("/proc/{0}/task/{0}/schedstat", question.pid));
    let queued = || queue_time(&daemon) + queue_time(Path::new("/proc/thread-self/schedstat"));
    let (begin, before) = (Instant::now(), queued());
    let answer = converse(&question.socket);
    let elapsed = begin.elapsed();
    (
        answer,
        elapsed.saturating_sub(queued().saturating_sub(before)),
    )
}

/// Time for which a thread was ready to run and did not: the second number of its `schedstat`.
fn queue_time(schedstat: &Path) -> Duration {
    let text = std::fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(
        text.split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    )
}

fn converse(socket: &Path) -> io::Result<Status> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(GIVE_UP))?;
    stream.set_write_timeout(Some(GIVE_UP))?;
    stream.write_all(b"{\"ask\":\"status\"}\n")?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text)?;
    serde_json::from_str(&text).map_err(|error| io::Error::other(format!("{error}: {text}")))
}
