//! One file, written and looked after beside the loop: a disk may hang.
//!
//! A file that another program removes is asked for again; one that it changes is reported and left alone.

use std::convert::Infallible;
use std::future::pending;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::util::atomic_file::{self, Error};
use crate::util::backoff::Backoff;
use crate::util::retry_log::RetryLog;

/// Between two looks at a file.
const LOOK: Duration = Duration::from_secs(5);
/// Work on a file that takes longer is reported.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// A file is read in parts of so many bytes.
const PART: usize = 64 << 10;
/// First and longest pause after a write that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How a file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The number of the last content that was written.
    pub(super) written: u64,
    /// Why it is not written.
    pub(super) trouble: Option<String>,
    /// What another program did to it.
    pub(super) change: Option<String>,
    /// Another program has removed it, and its content is awaited.
    pub(super) is_gone: bool,
}

/// What a file must hold.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) number: u64,
    /// None if it must be gone from now on, whatever comes later.
    pub(super) bytes: Option<Vec<u8>>,
}

impl Content {
    /// The content of a file that must be gone.
    pub(super) const NONE: Self = Self {
        number: u64::MAX,
        bytes: None,
    };
}

/// Does work that a disk may hold up; says so if it does.
pub(super) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    on_slow: impl FnOnce(),
) -> T {
    let mut work = spawn_blocking(work);
    let done = match timeout(SLOW, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            on_slow();
            work.await
        }
    };
    match done {
        Ok(done) => done,
        // The process is ending.
        Err(_) => pending().await,
    }
}

/// Owner of a file.
pub(super) struct Keeper {
    file: File,
    written: fn(&Path),
    contents: mpsc::UnboundedReceiver<Content>,
    state: watch::Sender<State>,
}

impl Keeper {
    /// `written` reports a write.
    pub(super) fn new(
        path: PathBuf,
        mode: u32,
        written: fn(&Path),
    ) -> (mpsc::UnboundedSender<Content>, watch::Receiver<State>, Self) {
        let (sender, contents) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(State::default());
        (
            sender,
            states,
            Self {
                file: File {
                    path,
                    mode,
                    last: None,
                },
                written,
                contents,
                state,
            },
        )
    }

    /// Keeps the file until the future is dropped.
    pub(super) async fn run(self) -> Infallible {
        let Self {
            mut file,
            written,
            mut contents,
            state,
        } = self;
        let (mut backoff, mut waiting) = (Backoff::new(PAUSE.0, PAUSE.1), RetryLog::default());
        let mut content: Option<Content> = None;
        let mut next = Instant::now() + LOOK;
        loop {
            tokio::select! {
                Some(new) = contents.recv() => content = Some(new),
                () = sleep_until(next) => {}
            }
            take_newer(&mut content, &mut contents);
            let hangs = format!("the file system of {} does not answer", file.path.display());
            let on_slow = || {
                state.send_modify(|state| state.trouble = Some(hangs.clone()));
                waiting.log(&hangs);
            };
            match content.take() {
                Some(new) => {
                    let write = move || {
                        let result = match &new.bytes {
                            Some(bytes) => file.write(bytes),
                            None => file.remove(),
                        };
                        (file, new, result)
                    };
                    let (back, new, result) = beside(write, on_slow).await;
                    file = back;
                    match result {
                        Ok(()) if new.bytes.is_none() => {
                            state.send_replace(State {
                                written: new.number,
                                ..State::default()
                            });
                            pending::<()>().await;
                        }
                        Ok(()) => {
                            backoff.reset();
                            written(&file.path);
                            state.send_replace(State {
                                written: new.number,
                                ..State::default()
                            });
                            next = Instant::now() + LOOK;
                        }
                        Err(error) => {
                            waiting.log(&error.to_string());
                            state.send_modify(|state| state.trouble = Some(error.to_string()));
                            content = Some(new);
                            next = Instant::now() + backoff.delay(rand::random());
                        }
                    }
                }
                None => {
                    let look = move || {
                        let found = file.look();
                        (file, found)
                    };
                    let found;
                    (file, found) = beside(look, on_slow).await;
                    report(&file, found, &state);
                    next = Instant::now() + LOOK;
                }
            }
        }
    }
}

/// Takes the last content that was sent. A file that must be gone gets no other one.
fn take_newer(content: &mut Option<Content>, contents: &mut mpsc::UnboundedReceiver<Content>) {
    while content
        .as_ref()
        .is_none_or(|content| content.bytes.is_some())
        && let Ok(newer) = contents.try_recv()
    {
        *content = Some(newer);
    }
}

/// Publishes what was found, and logs what is new.
fn report(file: &File, found: Found, state: &watch::Sender<State>) {
    let path = file.path.display();
    let change = match found {
        Found::Same => None,
        Found::Gone => Some(format!("another program removed {path}")),
        Found::Changed => Some(format!("another program changed {path}")),
    };
    let is_gone = found == Found::Gone;
    state.send_if_modified(|state| {
        let now = State { written: state.written, trouble: None, change, is_gone: state.is_gone || is_gone };
        if now.change.is_some() && state.change != now.change {
            if is_gone {
                warn!(%path, "another program removed {path}; writing it again");
            } else { warn!(
                %path,
                "another program changed {path}; flanneld overwrites it when the content changes, or at its next start"
            ) }
        }
        let is_new = *state != now;
        *state = now;
        is_new
    });
}

/// What another program made of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Gone,
    Changed,
}

/// A file, and what is known of its content.
#[derive(Debug)]
struct File {
    path: PathBuf,
    mode: u32,
    /// None until it is written for the first time, and once it is gone.
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    /// Hash of what was written.
    hash: u64,
    /// The file when it was looked at last, and what was found.
    stamp: Option<Stamp>,
    found: Found,
}

/// Device, inode, length, and time of the last change of inode or content: another one makes a look at the content worth it.
type Stamp = (u64, u64, u64, (i64, i64));

impl File {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        atomic_file::write(&self.path, bytes, self.mode)?;
        self.last = Some(Last {
            // Memory cannot be unreadable.
            hash: hash(bytes).unwrap_or_default(),
            stamp: None,
            found: Found::Same,
        });
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.last = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error {
                path: self.path.clone(),
                doing: "remove it",
                source: error,
            }),
            _ => Ok(()),
        }
    }

    fn look(&mut self) -> Found {
        let Some(last) = &mut self.last else {
            return Found::Same;
        };
        let found = match std::fs::symlink_metadata(&self.path) {
            Ok(now) => {
                let stamp = Some((
                    now.dev(),
                    now.ino(),
                    now.len(),
                    (now.ctime(), now.ctime_nsec()),
                ));
                if last.stamp == stamp {
                    return last.found;
                }
                last.stamp = stamp;
                let found = std::fs::File::open(&self.path).and_then(hash);
                let is_same = found.is_ok_and(|found| found == last.hash);
                if is_same { Found::Same } else { Found::Changed }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.last = None;
                return Found::Gone;
            }
            // Such as a directory that may not be read now.
            Err(_) => Found::Same,
        };
        last.found = found;
        found
    }
}

/// Hashes a content in small parts: a state file has megabytes, which the allocator would keep.
fn hash(mut content: impl Read) -> io::Result<u64> {
    let (mut hasher, mut part) = (DefaultHasher::new(), Vec::with_capacity(PART));
    loop {
        part.clear();
        let length = content.by_ref().take(PART as u64).read_to_end(&mut part)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        part.hash(&mut hasher);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn look_tells_removed_from_changed_from_touched() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("dir/file");
        let mut file = File {
            path: path.clone(),
            mode: 0o600,
            last: None,
        };
        assert_eq!(file.look(), Found::Same, "nothing was written yet");
        file.write(b"one").unwrap();
        assert_eq!(file.look(), Found::Same);
        fs::write(&path, "two").unwrap();
        assert_eq!((file.look(), file.look()), (Found::Changed, Found::Changed));
        fs::write(&path, "one").unwrap();
        assert_eq!(file.look(), Found::Same, "another program restored it");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert_eq!(
            (file.look(), file.look()),
            (Found::Gone, Found::Same),
            "reported once"
        );
        file.write(b"one").unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(file.look(), Found::Changed);
    }

    /// What is on its way to the file comes before, what is sent later is too late.
    #[tokio::test]
    async fn file_that_must_be_gone_is_never_written_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let (contents, mut states, keeper) = Keeper::new(path.clone(), 0o600, |_| ());
        let content = |number| Content {
            number,
            bytes: Some(b"one".to_vec()),
        };
        let story = async {
            contents.send(content(1)).unwrap();
            states.wait_for(|state| state.written == 1).await.unwrap();
            for content in [content(2), Content::NONE, content(3)] {
                contents.send(content).unwrap();
            }
            states
                .wait_for(|state| state.written == Content::NONE.number)
                .await
                .unwrap();
            contents.send(content(4)).unwrap();
            tokio::task::yield_now().await;
            assert!(!path.exists());
        };
        tokio::select! { () = story => {}, never = keeper.run() => match never {} }
    }
}
