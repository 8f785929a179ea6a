//! An eBPF program that does nothing, attached to a trace point that forkwatch watches: the least that any program can
//! cost there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya_obj::btf::{Btf, BtfKind};

/// Name of the program, as the kernel lists it.
pub(crate) const NAME: &str = "empty";

/// Commands, types and opcodes of include/uapi/linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_RAW_TP: u32 = 23;
/// `r0 = 0; exit`, eight bytes each: opcode, registers, offset, immediate.
const INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];

/// The part of `union bpf_attr` that loads a program, up to the last field needed.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// The part that attaches one to a raw trace point; the program itself knows which.
#[repr(C)]
struct AttachAttributes {
    name: u64,
    prog_fd: u32,
    reserved: u32,
}

/// The empty program; detached when dropped.
pub(crate) struct Empty {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Empty {
    /// Loads the program and attaches it to this trace point.
    pub(crate) fn attach(trace_point: &str) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let attach_btf_id =
            btf.id_by_type_name_kind(&format!("btf_trace_{trace_point}"), BtfKind::Typedef)
                .with_context(|| format!("the kernel's BTF does not know the trace point {trace_point}"))?;
        let mut prog_name = [0; 16];
        prog_name.iter_mut().zip(NAME.bytes()).for_each(|(to, from)| *to = from);
        let load = LoadAttributes {
            prog_type: PROG_TYPE_TRACING,
            insn_cnt: 2,
            insns: INSTRUCTIONS.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            prog_name,
            expected_attach_type: TRACE_RAW_TP,
            attach_btf_id,
            ..LoadAttributes::default()
        };
        let program = bpf(PROG_LOAD, &load).context("cannot load an empty program")?;
        let attach = AttachAttributes { name: 0, prog_fd: u32::try_from(program.as_raw_fd())?, reserved: 0 };
        let link = bpf(RAW_TRACEPOINT_OPEN, &attach).context("cannot attach an empty program")?;
        Ok(Self { _link: link, _program: program })
    }
}

/// bpf(2), for the commands that answer with a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is the command's part of `union bpf_attr`, of the size given, and outlives the call, as
    // does all that it points to.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor for us alone.
    let file = unsafe { File::from_raw_fd(fd) };
    Ok(file.into())
}
