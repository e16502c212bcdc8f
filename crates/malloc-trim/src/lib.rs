//! Gives free memory of glibc's allocator back to the system.
//!
//! A package of its own, since all others forbid `unsafe`, and no crate offers this call without it.

/// Returns the free pages of all arenas to the system, also those between allocations. With another C library it does
/// nothing.
///
/// glibc by itself returns large blocks and the end of its heap. After a burst, what is left of it stays resident.
pub fn malloc_trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer and is thread-safe (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
