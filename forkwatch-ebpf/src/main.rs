//! The kernel side of forkwatch: an object for the BPF target, and nothing at all for a host.
//!
//! The programs of `fork`, `exec`, `exit` and `newtask` are always attached, those of `clone_calls` only where they
//! are asked for, those of `heirs` where the kernel allows copies, those of `signals`, `sharers` and `sockets` only while a question is open that they answer; that of `sleepers` runs when it
//! is read.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    allow(missing_docs, reason = "the macros of aya-ebpf make undocumented items")
)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

// First: the others use its macros.
#[cfg(target_arch = "bpf")]
#[macro_use]
mod say;

#[cfg(target_arch = "bpf")]
mod clone_calls;
#[cfg(target_arch = "bpf")]
mod counters;
#[cfg(target_arch = "bpf")]
mod exec;
#[cfg(target_arch = "bpf")]
mod exit;
#[cfg(target_arch = "bpf")]
mod family;
#[cfg(target_arch = "bpf")]
mod fork;
#[cfg(target_arch = "bpf")]
mod heirs;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod newtask;
#[cfg(target_arch = "bpf")]
mod parents;
#[cfg(target_arch = "bpf")]
mod ring;
#[cfg(target_arch = "bpf")]
mod settings;
#[cfg(target_arch = "bpf")]
mod sharers;
#[cfg(target_arch = "bpf")]
mod sharing;
#[cfg(target_arch = "bpf")]
mod signals;
#[cfg(target_arch = "bpf")]
mod sleepers;
#[cfg(target_arch = "bpf")]
mod sockets;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod wanted;
#[cfg(target_arch = "bpf")]
mod worker;

/// The helpers `bpf_ktime_get_boot_ns` and the ring's are open to all, but kernels ask every tracing program
/// for a compatible licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: nothing here panics. The verifier would refuse the loop if it were reachable.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
