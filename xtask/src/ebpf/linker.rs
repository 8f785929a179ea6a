//! bpf-linker: one in the project's cache for each LLVM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::compiler::Compiler;
use super::llvm;
use crate::project::{self, run};

/// The version of bpf-linker that is used.
pub(crate) const VERSION: &str = "0.13.0";

/// The LLVM versions that it can be built with.
const SUPPORTED: std::ops::RangeInclusive<u32> = 21..=23;

/// A bpf-linker that reads what the compiler writes.
pub(crate) struct Linker {
    /// The program.
    pub(crate) path: PathBuf,
    /// The LLVM that it runs with.
    pub(crate) llvm: llvm::Version,
}

/// The bpf-linker for a compiler, built first if the cache does not hold it.
pub(crate) fn provide(compiler: &Compiler, install: bool) -> Result<Linker> {
    let major = compiler.llvm.major;
    if !SUPPORTED.contains(&major) {
        bail!(
            "{} has LLVM {major}, and bpf-linker {VERSION} knows only LLVM {SUPPORTED:?}: take another compiler",
            compiler.version
        );
    }
    let directory = project::cache()?.join(format!("bpf-linker-{VERSION}-llvm-{major}"));
    let path = directory.join("bin/bpf-linker");
    if !path.is_file() {
        let prefix = llvm::prefix(major, install)?;
        let feature = format!("llvm-{major}");
        let arguments = [
            "install",
            "bpf-linker",
            "--locked",
            "--no-default-features",
            "--version",
            VERSION,
            "--features",
        ];
        run(project::cargo()?
            .args(arguments)
            .arg(feature)
            .arg("--root")
            .arg(&directory)
            .env("LLVM_PREFIX", &prefix))?;
    }
    let llvm = llvm_of(&path)?;
    agree(compiler, llvm)?;
    Ok(Linker { path, llvm })
}

/// Refuses a linker that cannot read the compiler's bitcode, or reads it into something else.
fn agree(compiler: &Compiler, linker: llvm::Version) -> Result<()> {
    let Compiler { version, llvm, .. } = compiler;
    if llvm.major != linker.major {
        bail!(
            "bpf-linker was built with LLVM {linker} and {version} with LLVM {llvm}: their majors must be the same. \
             Remove it from {} and run this again with LLVM_PREFIX unset",
            project::cache()?.display()
        );
    }
    Ok(())
}

/// Asks a bpf-linker for bitcode, which names the LLVM that wrote it: `--version` does not, and a statically linked
/// one shows it in no other way.
fn llvm_of(linker: &Path) -> Result<llvm::Version> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let (source, bitcode) = (directory.path().join("empty.ll"), directory.path().join("empty.bc"));
    fs::write(&source, "target triple = \"bpfel\"\n")?;
    run(Command::new(linker)
        .args(["--target", "bpfel", "--emit", "llvm-bc", "--output"])
        .arg(&bitcode)
        .arg(&source))?;
    llvm::Version::of_bitcode(&fs::read(&bitcode)?)
        .with_context(|| format!("{} does not show its LLVM", linker.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linker_of_another_llvm_is_refused_and_both_are_named() {
        let version = |text| llvm::Version::parse(text).unwrap();
        let compiler = Compiler {
            rustc: PathBuf::new(),
            cargo: PathBuf::new(),
            version: "rustc 1.96.0".to_owned(),
            llvm: version("22.1.8"),
            sysroot: PathBuf::new(),
            has_core: true,
        };
        agree(&compiler, version("22.1.0")).unwrap();
        let refusal = agree(&compiler, version("21.1.8")).unwrap_err().to_string();
        assert!(refusal.contains("LLVM 21.1.8 and rustc 1.96.0 with LLVM 22.1.8"), "{refusal}");
    }
}
