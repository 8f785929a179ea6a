//! What leaves the program.

pub mod event_file;
pub mod metrics;
