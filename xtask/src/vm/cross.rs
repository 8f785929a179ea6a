//! What compiling for another architecture takes: a linker, its C library, and Rust's standard library.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{arch::Arch, packages::Apt};
use crate::{
    apt,
    project::{cache, output, run},
};

/// Where Debian's own compiler and its standard libraries come from.
const SUITES: [&str; 5] = ["bookworm", "bookworm-security", "trixie", "trixie-security", "sid"];

/// How to compile for an architecture.
pub(crate) struct Compiler {
    arch: Arch,
    pub(crate) linker: &'static str,
    /// Where the standard library is, if not in the compiler's own place.
    pub(crate) sysroot: Option<PathBuf>,
}

impl Compiler {
    /// What tells cargo the linker.
    pub(crate) fn linker_variable(&self) -> String {
        format!("CARGO_TARGET_{}_LINKER", self.arch.target().replace('-', "_").to_uppercase())
    }
}

/// Installs what is missing.
pub(crate) fn provide(arch: Arch) -> Result<Compiler> {
    let (linker, packages) = match arch {
        Arch::X86_64 => ("x86_64-linux-gnu-gcc", ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"]),
        Arch::Aarch64 => ("aarch64-linux-gnu-gcc", ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]),
    };
    apt::provide(linker, &packages)?;
    Ok(Compiler { arch, linker, sysroot: standard_library(arch)? })
}

/// The standard library that goes with the compiler that cargo uses here: rustup's component, or Debian's package.
fn standard_library(arch: Arch) -> Result<Option<PathBuf>> {
    let rustc = |arguments: &[&str]| output(Command::new("rustc").args(arguments));
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    if library(&sysroot, arch).is_dir() {
        return Ok(None);
    }
    if sysroot.starts_with("/usr") {
        return debian(arch).map(Some);
    }
    run(Command::new("rustup").args(["target", "add", arch.target()])).with_context(|| {
        format!("{} has no standard library for {}, and is not rustup's", sysroot.display(), arch.target())
    })?;
    Ok(None)
}

fn library(sysroot: &Path, arch: Arch) -> PathBuf {
    sysroot.join("lib/rustlib").join(arch.target()).join("lib")
}

/// The package of the other architecture, of the very version of this one's compiler: nothing else fits.
fn debian(arch: Arch) -> Result<PathBuf> {
    let owner = output(Command::new("dpkg-query").args(["--search", "/usr/bin/rustc"]))?;
    let compiler = owner.split(':').next().unwrap_or_default();
    let version = output(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", compiler]))?;
    let library = compiler.replacen("rustc", "libstd-rust", 1) + "-dev";
    let root = cache()?.join(format!("vm/rust-{}-{}", arch.debian(), version.replace('/', "_")));
    let sysroot = root.join("sysroot");
    if self::library(&sysroot, arch).is_dir() {
        return Ok(sysroot);
    }
    let unpacked = root.join("unpacked");
    let package = format!("{library}={version}");
    Apt::open("rust", arch.debian(), &SUITES)?.provide(&package, false, &unpacked, |_| Ok(()))?;
    let libraries = ["usr/lib/rustlib", "usr/lib/rust-web/lib/rustlib"].map(|place| unpacked.join(place));
    let Some(found) = libraries.iter().map(|place| place.join(arch.target())).find(|place| place.is_dir())
    else {
        bail!("{library} {version} has no library for {}", arch.target());
    };
    let place = sysroot.join("lib/rustlib");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    symlink(&found, place.join(arch.target())).context("cannot make a link")?;
    Ok(sysroot)
}
