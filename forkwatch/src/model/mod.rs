//! The plain data that the rest of the program passes around: no I/O, no clock, no kernel types.

pub mod counters;
pub mod event;
pub mod evidence;
pub mod finding;
pub mod limit;
pub mod process;
pub mod signals;
pub mod time;
