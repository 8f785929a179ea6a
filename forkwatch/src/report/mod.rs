//! What leaves the program: events and findings as JSON, as lines on a terminal, and recordings.

pub mod columns;
mod context;
pub mod json;
pub mod recording;
#[cfg(test)]
mod samples;

pub use context::Context;
