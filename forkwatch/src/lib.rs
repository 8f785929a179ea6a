//! forkwatch watches every fork on a Linux host with eBPF, decides which were unsafe, and says what to change.
//!
//! The house, and which way its arrows point, is drawn in `ARCHITECTURE.md`.

pub mod action;
pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod core;
pub mod detect;
mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod health;
pub mod hooks;
pub mod host;
pub mod input_file;
pub mod kernel;
pub mod live;
pub mod log;
pub mod model;
pub mod output;
pub mod output_file;
mod paragraph;
pub mod privilege;
pub mod reader;
pub mod release;
pub mod remedy;
pub mod resources;
pub mod serve;
pub mod service;
pub mod store;
pub mod tls;

#[cfg(test)]
mod skip;
pub mod workers;
