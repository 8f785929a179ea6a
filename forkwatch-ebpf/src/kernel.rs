//! Typed reads of the kernel's structures.
//!
//! A pointer comes from an argument of a `tp_btf`, `fentry` or `fexit` program, so the verifier knows its type and
//! follows every load: no helper, and nothing that `lockdown=confidentiality` forbids. One that was loaded and is NULL
//! at run time reads as zero (the kernel's exception table for BPF loads, `bpf_prog_load` with `BPF_PROBE_MEM`).
//! A load of a *pointer* is dear at load time: for each that it walks over, the verifier searches all of the kernel's
//! types by name, several times (`type_is_rcu`, kernel/bpf/verifier.c). So each is loaded once, before the branches.
//! Once rust-lang/rust#160616 is there, `field` becomes `core::btf::field_byte_offset!`.

use aya_ebpf::Global;

/// A pointer to some kernel structure.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Kernel(*const u8);

impl Kernel {
    /// From an argument.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Reads the field at an offset that user space took from the kernel's BTF.
    #[inline(always)]
    pub(crate) fn field<T: Copy>(self, offset: &Global<u32>) -> T {
        self.at(offset.load())
    }

    #[inline(always)]
    pub(crate) fn at<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier checks this load against the type of the structure, and refuses the program
        // otherwise; volatile, so that the compiler neither merges nor widens it.
        unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast()) }
    }

    #[inline(always)]
    pub(crate) fn pointer(self, offset: &Global<u32>) -> Self {
        Self(self.field(offset))
    }

    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }
}
