//! Servers that fork workers: which server it is, what each of its processes is for, and what it does.

pub mod activity;
pub mod hearing;
pub mod hints;
pub mod lives;
pub mod servers;
