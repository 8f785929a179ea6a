//! Compiles an object so that its bytes depend on nothing but sources and toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};

use super::compiler::{Compiler, TARGET};
use super::fingerprint::CRATE;
use super::linker::Linker;
use super::manifest::Variant;
use crate::project::{self, run};

/// The profile of the root `Cargo.toml` that an object is compiled with.
const PROFILE: &str = "ebpf";

/// Compiles an object; returns where it lies, in a target directory of its own.
pub(crate) fn build(variant: Variant, compiler: &Compiler, linker: &Linker) -> Result<PathBuf> {
    let directory = project::target()?.join("ebpf");
    // The crates must lie unpacked before their directory's name is asked for.
    run(cargo(compiler)?.args(["fetch", "--quiet", "--locked", "--target", TARGET]))?;
    let mut command = cargo(compiler)?;
    command
        .args([
            "build",
            "--locked",
            "--profile",
            PROFILE,
            "--package",
            CRATE,
            "--bin",
            CRATE,
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&directory)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(compiler)?.join("\u{1f}"));
    if let Some(feature) = variant.feature {
        command.args(["--features", feature]);
    }
    if !compiler.has_core {
        command.args(["-Z", "build-std=core"]);
    }
    run(&mut command)?;
    let built = directory.join(TARGET).join(PROFILE).join(CRATE);
    // Without BTF of its own: aya 0.14 passes on function records that the kernel refuses.
    let object = directory.join(variant.object);
    fs::copy(&built, &object)
        .with_context(|| format!("cannot copy {} to {}", built.display(), object.display()))?;
    Ok(object)
}

/// The compiler's cargo, in an environment that says nothing about how to compile.
fn cargo(compiler: &Compiler) -> Result<Command> {
    let mut command = Command::new(&compiler.cargo);
    let settings = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_ENCODED_", "RUST", "__CARGO"];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if settings.iter().any(|setting| name.starts_with(setting)) && name != "RUSTUP_HOME" {
            command.env_remove(&*name);
        }
    }
    // Stable compilers take the unstable options of the BPF target only so.
    command.current_dir(project::root()?).env("RUSTC", &compiler.rustc).env("RUSTC_BOOTSTRAP", "1");
    Ok(command)
}

/// No path of this machine may enter the object.
fn flags(compiler: &Compiler) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    let mut remap =
        |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(&compiler.sysroot, "/rust");
    for registry in registries()? {
        remap(&registry, "/registry");
    }
    remap(&project::root()?, "/forkwatch");
    Ok(flags)
}

/// Where cargo unpacks crates, a directory for each registry or mirror.
fn registries() -> Result<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let sources = home.join("registry/src");
    let entries = sources.read_dir().with_context(|| format!("cannot read {}", sources.display()))?;
    let mut directories = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    directories.sort();
    Ok(directories)
}
