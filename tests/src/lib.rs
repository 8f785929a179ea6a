//! What the end-to-end tests are made of: real programs and fixtures that fork ([`scenario`], [`fixture`]), some of
//! them with a connection that both processes then hold ([`connection`]), a driver
//! of the forkwatch binary ([`forkwatch`]), and what is expected of it ([`expectation`]).
//!
//! A program under watch is held before its exec until forkwatch watches its pid, so nothing it does is missed and
//! nothing else on the host is in the way. Nothing waits by the clock: every wait is for a condition, with a
//! deadline. That a program was found safe shows when a fork made after it is found unsafe ([`watched`]).

#![expect(clippy::expect_used, reason = "a broken test world is to fail its test loudly")]

pub mod binary;
pub mod bpf;
pub mod browser;
pub mod certificates;
pub mod cgroup;
pub mod connection;
pub mod crowd;
pub mod daemon;
pub mod event;
pub mod expectation;
pub mod fixture;
pub mod forksafe;
pub mod forkwatch;
pub mod guest;
pub mod hooks_page;
pub mod host;
pub mod http;
pub mod kernel;
pub mod metrics;
pub mod on_demand;
pub mod precision;
pub mod process;
pub mod program;
pub mod provided;
pub mod python;
pub mod receiver;
pub mod recording;
pub mod runner;
pub mod scenario;
pub mod schema;
pub mod terminal;
pub mod thread;
pub mod wait;
pub mod watched;
