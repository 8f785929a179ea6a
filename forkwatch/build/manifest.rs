//! What the committed eBPF objects were made from and with: a manifest for each, in `bpf/`.

/// One of the objects that the same sources are compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Its file name, in `bpf/` and in the build directory.
    pub(crate) object: &'static str,
    /// The file name of its manifest.
    pub(crate) manifest: &'static str,
    /// The feature of the crate that makes it what it is.
    pub(crate) feature: Option<&'static str>,
}

/// The one that is loaded unless somebody asks for the other: it says nothing of its decisions.
pub(crate) const PLAIN: Variant = Variant { object: "forkwatch.o", manifest: "manifest.toml", feature: None };
/// The one that `--kernel-log` loads: it says through aya-log what it decides.
pub(crate) const LOGGING: Variant =
    Variant { object: "kernel-log.o", manifest: "kernel-log.toml", feature: Some("kernel-log") };

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
    /// Reads a manifest; the error names the entry that is missing, and the file.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let entry = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find(|(name, _)| name.trim() == key)
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
                .ok_or_else(|| format!("bpf/{file} has no entry `{key}`; `{REMEDY}` writes it anew"))
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

    /// The manifest of that object, as it stands in its file.
    #[allow(dead_code, reason = "the build script only reads manifests")]
    pub(crate) fn text(&self, object: &str) -> String {
        let Self { sources, object: hash, aya_ebpf, toolchain } = self;
        let Toolchain { rustc, rustc_llvm, bpf_linker, bpf_linker_llvm } = toolchain;
        format!(
            "# Written by `{REMEDY}`: what {object} was made from, and with.\n\
             sources = \"{sources}\"\n\
             object = \"{hash}\"\n\
             aya-ebpf = \"{aya_ebpf}\"\n\
             rustc = \"{rustc}\"\n\
             rustc-llvm = \"{rustc_llvm}\"\n\
             bpf-linker = \"{bpf_linker}\"\n\
             bpf-linker-llvm = \"{bpf_linker_llvm}\"\n"
        )
    }
}
