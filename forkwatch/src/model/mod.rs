//! The plain data that the rest of the program passes around: no I/O, no clock, no kernel types.

pub mod child_end;
pub mod connection;
pub mod counters;
pub mod defaults;
pub mod detector;
pub mod event;
pub mod evidence;
pub mod exit_code;
pub mod facts;
pub mod finding;
pub mod inventory;
pub mod lasted;
pub mod leak;
pub mod limit;
pub mod lock;
pub mod order;
mod ownership;
pub mod particulars;
pub mod process;
pub mod program_name;
pub mod provenance;
pub mod resolution;
pub mod signals;
pub mod stack;
pub mod standing;
pub mod thread;
pub mod time;
