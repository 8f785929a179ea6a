//! What a running watch answers to those who ask it: over the local socket, and over HTTP. One schema for both, in one
//! place, as plain data without I/O; `docs/api.openapi.json` is made from it.

mod filter;
mod findings;
mod hazards;
mod health;
mod markdown;
mod openapi;
mod processes;
mod servers;

pub use self::{
    filter::{Filter, FilterError, MOST_LISTED, parse_since},
    findings::{Brief, FindingDocument, Findings, Kept, KeptState},
    hazards::{HazardDocument, Hazards, RemedyDocument},
    health::{DetectorHealth, Doubt, Health, PartHealth, StoreHealth},
    markdown::{markdown, plain},
    openapi::openapi,
    processes::{ProcessDocument, Processes},
    servers::{ServerDocument, Servers, WorkerDocument, WorkerEndDocument, Workers},
};

pub use crate::model::rescued::RescueReport;

/// What every path of the interface begins with.
pub const PREFIX: &str = "/api/v1";
