//! Servers that fork workers: which server it is, and what each of its processes is for.

pub mod servers;
