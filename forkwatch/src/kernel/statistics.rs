//! The kernel's own statistics of our programs.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::{
    bpf_attr, bpf_cmd,
    bpf_cmd::{BPF_ENABLE_STATS, BPF_OBJ_GET_INFO_BY_FD},
    bpf_prog_info,
};

use crate::model::counters::ProgramReading;

/// Whether the kernel keeps them: off by default, because it costs every program on the host two clock reads a run.
pub(super) fn are_kept() -> bool {
    fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|value| value.trim() != "0")
}

/// Has the kernel keep them for as long as the result lives (`BPF_ENABLE_STATS`, bpf(2)). Needs `CAP_SYS_ADMIN`.
pub fn keep() -> io::Result<OwnedFd> {
    // SAFETY: a structure of integers, for which zeros are a value: statistics of run time are type 0.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    let descriptor = call(BPF_ENABLE_STATS, &mut attributes)?;
    // SAFETY: a descriptor that was just opened, and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Reads one program's. Needs no capability, only the program's file descriptor.
pub(super) fn read(name: &'static str, program: BorrowedFd<'_>) -> io::Result<ProgramReading> {
    let info = program_info(program)?;
    Ok(ProgramReading {
        name,
        runs: info.run_cnt,
        run_nanos: info.run_time_ns,
        recursion_misses: info.recursion_misses,
    })
}

/// `BPF_OBJ_GET_INFO_BY_FD`, bpf(2): aya gives the rest of this structure, but not what is wanted here.
fn program_info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    // SAFETY: likewise.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.info.bpf_fd = program.as_fd().as_raw_fd().unsigned_abs();
    attributes.info.info_len = u32::try_from(size_of::<bpf_prog_info>()).map_err(io::Error::other)?;
    attributes.info.info = (&raw mut info) as u64;
    call(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// bpf(2). A buffer that the attributes name must have the length they tell, and outlive the call.
fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attributes are whole, and live through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}
