//! Runs hooks: what an operator wants done when something happens.
//!
//! This is a process of its own. It hears what a running watch tells over its local socket, as anybody may who is allowed
//! to, and the watch knows nothing of it. So a hook that hangs, fails, floods or wants privileges is never the watch's
//! concern.

mod book;
mod control;
mod document;
mod event;
mod exec;
mod hub;
mod news;
mod post;
mod queue;
mod ran;
mod rates;
mod runner;
mod service;
mod stop;
mod trial;

pub use self::{
    document::{HookDocument, HooksDocument, LastRun, TrialDocument},
    ran::{How, Ran},
    service::{HooksError, Service, Setup},
    trial::{TrialError, try_out},
};
