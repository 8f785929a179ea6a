//! forkwatch watches every fork on a Linux host with eBPF, decides which were unsafe, and says what to change.
//!
//! The house, and which way its arrows point, is drawn in `ARCHITECTURE.md`.

pub mod host;
pub mod model;
pub mod report;
