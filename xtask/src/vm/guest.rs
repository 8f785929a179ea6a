//! The programs that run in a guest: linked statically, because there is nothing else.

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use super::{arch::Arch, cross};
use crate::project;

/// Of Cargo.toml: soon built.
const PROFILE: &str = "guest";

/// Where they are.
pub(crate) struct Programs {
    pub(crate) forkwatch: PathBuf,
    pub(crate) guest: PathBuf,
}

/// Builds what a machine without a system needs.
pub(crate) fn build(arch: Arch) -> Result<Programs> {
    let built = build_programs(arch, &["forkwatch", "forkwatch-guest"])?;
    Ok(Programs { forkwatch: built.join("forkwatch"), guest: built.join("forkwatch-guest") })
}

/// Builds programs, in a target directory of their own: other flags would have everything else built anew. Gives the
/// directory that they are in.
pub(crate) fn build_programs(arch: Arch, programs: &[&str]) -> Result<PathBuf> {
    if env::consts::ARCH != "x86_64" {
        bail!("the machines are emulated by a program for x86-64, and this is {}", env::consts::ARCH);
    }
    let directory = project::target()?.join("guest");
    let mut flags = "-C target-feature=+crt-static".to_owned();
    let mut command = project::cargo()?;
    if arch != Arch::X86_64 {
        let compiler = cross::provide(arch)?;
        command.env(compiler.linker_variable(), compiler.linker);
        flags.extend(compiler.sysroot.map(|sysroot| format!(" --sysroot {}", sysroot.display())));
    }
    command.args(["build", "--locked", "--profile", PROFILE, "--target", arch.target(), "--target-dir"]);
    command.arg(&directory).args(["--package", "forkwatch", "--package", "forkwatch-tests"]);
    command.args(programs.iter().flat_map(|program| ["--bin", program])).env("RUSTFLAGS", flags);
    project::run(&mut command)?;
    Ok(directory.join(arch.target()).join(PROFILE))
}
