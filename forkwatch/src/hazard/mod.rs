//! The hazards, and what is accepted of them.

pub mod allow;
