//! The kernel side of forkwatch: an object for the BPF target, and nothing at all for a host.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
