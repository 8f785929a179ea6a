//! What leaves the program: events and findings as JSON and as lines on a terminal, metrics, recordings.

pub mod columns;
mod context;
pub mod event_file;
pub mod identity;
pub mod json;
pub mod metrics;
pub mod recording;
#[cfg(test)]
mod samples;
pub mod standard_output;

pub use context::Context;
