//! What the committed eBPF object was made from and with: `bpf/manifest.toml`.

use std::fmt;

/// The object's file name, in `bpf/` and in the build directory.
pub(crate) const OBJECT: &str = "forkwatch.o";

/// The command that mends an object that does not fit.
pub(crate) const REMEDY: &str = "cargo xtask build-ebpf";

/// The manifest's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Fingerprint of the sources.
    pub(crate) sources: String,
    /// SHA-256 of the object.
    pub(crate) object: String,
    /// Version of aya-ebpf.
    pub(crate) aya_ebpf: String,
    /// The programs that made it.
    pub(crate) toolchain: Toolchain,
}

/// Programs that decide, together with the sources, each byte of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// The compiler, as `rustc --version` names itself.
    pub(crate) rustc: String,
    /// Version of the compiler's LLVM.
    pub(crate) rustc_llvm: String,
    /// Version of bpf-linker.
    pub(crate) bpf_linker: String,
    /// Version of bpf-linker's LLVM.
    pub(crate) bpf_linker_llvm: String,
}

impl Manifest {
    /// Reads a manifest; the error names the entry that is missing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let entry = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find(|(name, _)| name.trim() == key)
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
                .ok_or_else(|| format!("bpf/manifest.toml has no entry `{key}`; `{REMEDY}` writes it anew"))
        };
        Ok(Self {
            sources: entry("sources")?,
            object: entry("object")?,
            aya_ebpf: entry("aya-ebpf")?,
            toolchain: Toolchain {
                rustc: entry("rustc")?,
                rustc_llvm: entry("rustc-llvm")?,
                bpf_linker: entry("bpf-linker")?,
                bpf_linker_llvm: entry("bpf-linker-llvm")?,
            },
        })
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, object, aya_ebpf, toolchain } = self;
        let Toolchain { rustc, rustc_llvm, bpf_linker, bpf_linker_llvm } = toolchain;
        writeln!(f, "# Written by `{REMEDY}`: what {OBJECT} was made from, and with.")?;
        writeln!(f, "sources = \"{sources}\"")?;
        writeln!(f, "object = \"{object}\"")?;
        writeln!(f, "aya-ebpf = \"{aya_ebpf}\"")?;
        writeln!(f, "rustc = \"{rustc}\"")?;
        writeln!(f, "rustc-llvm = \"{rustc_llvm}\"")?;
        writeln!(f, "bpf-linker = \"{bpf_linker}\"")?;
        writeln!(f, "bpf-linker-llvm = \"{bpf_linker_llvm}\"")
    }
}
