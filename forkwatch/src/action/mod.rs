//! What changes something in other processes: only on request, never by the watch itself, and each time recorded.

pub mod rescue;
