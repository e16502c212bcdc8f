//! What several test programs share. Each uses its own part.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod netns;
