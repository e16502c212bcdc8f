//! Results of a check as text and JSON.

pub mod explain;
pub mod json;
pub mod text;
pub(super) mod trace;
