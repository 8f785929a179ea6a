//! What differs between the machines that are emulated.

use clap::ValueEnum;

/// A machine's architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[default]
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// This machine's.
    pub(crate) const fn of_the_host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// As the compiler calls it.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As Debian calls it.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The Debian package with its emulator.
    pub(crate) const fn emulator_package(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86",
            Self::Aarch64 => "qemu-system-arm",
        }
    }

    /// The emulator itself.
    pub(crate) const fn emulator(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The board: on x86 the one that QEMU takes by itself; on arm64 there is no such thing.
    pub(crate) const fn board(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &[],
            Self::Aarch64 => &["-machine", "virt"],
        }
    }

    /// The first serial port, which the kernel's console is.
    pub(crate) const fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// The series that are tested unless others are asked for: the oldest and the newest that Debian has, and the
    /// long-term ones that distributions ship.
    pub(crate) const fn series(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["oldest", "5.10", "6.1", "6.12", "6.12-rt", "6.18", "newest"],
            Self::Aarch64 => &["5.10", "6.1", "6.12", "newest"],
        }
    }
}
