//! The registers of a thread, as far as they are known, by their numbers in DWARF.

use gimli::Register;

/// Numbers that are kept; vector registers lead nowhere.
const COUNT: usize = 33;

#[cfg(target_arch = "x86_64")]
mod architecture {
    use gimli::{Register, X86_64};

    pub(super) const STACK_POINTER: Register = X86_64::RSP;
    pub(super) const RETURN_ADDRESS: Register = X86_64::RA;
    /// What a function must hand back as it was (System V ABI for AMD64, 3.2.1).
    pub(super) const PRESERVED: &[Register] =
        &[X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];

    pub(super) fn name(register: Register) -> Option<&'static str> {
        X86_64::register_name(register)
    }

    pub(super) const fn address(value: u64) -> u64 {
        value
    }
}

#[cfg(target_arch = "aarch64")]
mod architecture {
    use gimli::{AArch64, Register};

    pub(super) const STACK_POINTER: Register = AArch64::SP;
    pub(super) const RETURN_ADDRESS: Register = AArch64::X30;
    /// What a function must hand back as it was (AAPCS64, 6.1.1), and the link register, which a leaf leaves alone.
    pub(super) const PRESERVED: &[Register] = &[
        AArch64::X19,
        AArch64::X20,
        AArch64::X21,
        AArch64::X22,
        AArch64::X23,
        AArch64::X24,
        AArch64::X25,
        AArch64::X26,
        AArch64::X27,
        AArch64::X28,
        AArch64::X29,
        AArch64::X30,
    ];

    pub(super) fn name(register: Register) -> Option<&'static str> {
        AArch64::register_name(register)
    }

    /// Without the signature that pointer authentication puts into the bits above 48.
    pub(super) const fn address(value: u64) -> u64 {
        value & 0xffff_ffff_ffff
    }
}

use architecture::PRESERVED;
pub(super) const STACK_POINTER: Register = architecture::STACK_POINTER;
pub(super) const RETURN_ADDRESS: Register = architecture::RETURN_ADDRESS;

/// What is known of a thread's registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    /// The instruction that runs next.
    pub(super) instruction: u64,
    /// Whether the thread was stopped for them: then what is not known cannot be known.
    pub(super) complete: bool,
    values: [Option<u64>; COUNT],
}

impl Registers {
    /// These two, which are all that `/proc` shows.
    pub(super) fn new(instruction: u64, stack: u64) -> Self {
        let mut registers = Self { instruction, complete: false, values: [None; COUNT] };
        registers.set(STACK_POINTER, Some(stack));
        registers
    }

    /// All of them, in the order of DWARF.
    pub(super) fn complete(instruction: u64, values: &[u64]) -> Self {
        let mut registers = Self { instruction, complete: true, values: [None; COUNT] };
        for (place, value) in registers.values.iter_mut().zip(values) {
            *place = Some(*value);
        }
        registers
    }

    /// Those of the caller, as far as a call hands them back.
    pub(super) fn preserved(&self, instruction: u64, stack: u64) -> Self {
        let mut caller = Self { complete: self.complete, ..Self::new(instruction, stack) };
        for register in PRESERVED {
            caller.set(*register, self.get(*register));
        }
        caller
    }

    pub(super) fn get(&self, register: Register) -> Option<u64> {
        self.values.get(usize::from(register.0)).copied().flatten()
    }

    pub(super) fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }

    pub(super) fn stack(&self) -> u64 {
        self.get(STACK_POINTER).unwrap_or(0)
    }
}

/// A return address as it stands in memory or in a register.
pub(super) const fn return_address(value: u64) -> u64 {
    architecture::address(value)
}

/// Its name for a sentence.
pub(super) fn name(register: Register) -> String {
    architecture::name(register).map_or_else(|| format!("register {}", register.0), ToOwned::to_owned)
}
