//! (to be written)
pub mod lab;
