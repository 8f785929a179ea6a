//! What leaves the program: events and findings as JSON, and recordings.

mod context;
pub mod json;
pub mod recording;
#[cfg(test)]
mod samples;

pub use context::Context;
