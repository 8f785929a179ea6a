//! All that touches the kernel side: its types, the eBPF object, the events and counters it hands up.

pub mod btf;
pub mod layout;
