//! What leaves the program: events and findings as JSON.

mod context;
pub mod json;
#[cfg(test)]
mod samples;

pub use context::Context;
