//! Helpers that any module may use: files, locks, backoff, logging, tables.

pub mod atomic_file;
pub mod backoff;
pub mod device_lock;
pub mod env_file;
pub mod family;
pub mod flapping;
pub mod go_lines;
pub mod histogram;
pub mod logging;
pub mod random;
pub mod retry_log;
pub mod systemd;
pub mod table;
pub mod timestamp;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. What is behind a lock here is right at any moment, also where a thread panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// FNV-1a: the same on every machine and in every release.
pub(crate) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The text of a small file without blanks around it; empty where it cannot be read.
pub fn read_trimmed(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}
