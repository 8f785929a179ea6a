//! The compiler that can compile for the BPF target.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::llvm;
use crate::{
    apt,
    project::{output, run},
};

/// The target that the object is compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Debian's own toolchain, with `core` already compiled for BPF, and what bpf-linker is built with. Should its LLVM
/// be another one day, that one's development files are asked for by name.
const DEBIAN: [&str; 5] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "g++"];

/// What rustup is asked for elsewhere.
const NIGHTLY: [&str; 7] =
    ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];

/// A compiler for the BPF target, and how to call it.
pub(crate) struct Compiler {
    /// `rustc`.
    pub(crate) rustc: PathBuf,
    /// Its `cargo`.
    pub(crate) cargo: PathBuf,
    /// As it names itself.
    pub(crate) version: String,
    /// Its LLVM.
    pub(crate) llvm: llvm::Version,
    /// Where its libraries are.
    pub(crate) sysroot: PathBuf,
    /// Whether `core` is there already compiled; otherwise it is built from rust-src.
    pub(crate) has_core: bool,
}

/// Debian's packaged compiler, or else rustup's nightly, the only one with `rustup`; `install` fetches one where
/// there is none.
pub(crate) fn find(rustup: bool, install: bool) -> Result<Compiler> {
    let ready = if rustup { None } else { debian()? };
    if let Some(compiler) = ready.map_or_else(nightly, |compiler| Ok(Some(compiler)))? {
        return Ok(compiler);
    }
    let packages = DEBIAN.join(" ");
    if !install {
        bail!(
            "no compiler for {TARGET}. On Debian 12 and later:\n  apt-get install -y --no-install-recommends {packages}\n\
             Elsewhere:\n  rustup {}\nor `cargo xtask build-ebpf --install`",
            NIGHTLY.join(" ")
        );
    }
    if !rustup && apt::has("libstd-rust-web-dev-bpf") {
        apt::install(&DEBIAN)?;
        debian()?
    } else {
        run(Command::new("rustup").args(NIGHTLY))?;
        nightly()?
    }
    .with_context(|| format!("the toolchain just installed does not compile for {TARGET}"))
}

fn debian() -> Result<Option<Compiler>> {
    let (rustc, cargo) = (PathBuf::from("/usr/bin/rustc"), PathBuf::from("/usr/bin/cargo"));
    if !rustc.is_file() || !cargo.is_file() {
        return Ok(None);
    }
    Ok(Some(describe(rustc, cargo)?).filter(|compiler| compiler.has_core))
}

fn nightly() -> Result<Option<Compiler>> {
    let which = |program| output(Command::new("rustup").args(["which", "--toolchain", "nightly", program]));
    let (Ok(rustc), Ok(cargo)) = (which("rustc"), which("cargo")) else { return Ok(None) };
    let compiler = describe(rustc.into(), cargo.into())?;
    let source = compiler.sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    Ok(Some(compiler).filter(|_| source.is_file()))
}

fn describe(rustc: PathBuf, cargo: PathBuf) -> Result<Compiler> {
    let ask = |arguments: &[&str]| output(Command::new(&rustc).args(arguments));
    let verbose = ask(&["--version", "--verbose"])?;
    let llvm = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let llvm = llvm.and_then(llvm::Version::parse);
    let libraries = PathBuf::from(ask(&["--print", "target-libdir", "--target", TARGET])?);
    Ok(Compiler {
        version: ask(&["--version"])?,
        llvm: llvm.with_context(|| format!("{} does not name its LLVM", rustc.display()))?,
        sysroot: ask(&["--print", "sysroot"])?.into(),
        has_core: has_core(&libraries),
        rustc,
        cargo,
    })
}

fn has_core(libraries: &Path) -> bool {
    let entries = libraries.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("libcore-"))
}
