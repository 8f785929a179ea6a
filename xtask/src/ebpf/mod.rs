//! `cargo xtask build-ebpf`: compiles the eBPF object and writes it, with its manifest, to `forkwatch/bpf`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

mod compiler;
#[path = "../../../forkwatch/build/fingerprint.rs"]
mod fingerprint;
mod linker;
mod llvm;
#[path = "../../../forkwatch/build/manifest.rs"]
mod manifest;
mod object;

use crate::project;
use manifest::{Manifest, OBJECT, REMEDY, Toolchain};

/// Compile the eBPF object and write it, with its manifest, to forkwatch/bpf
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing there; compare with the committed object instead
    #[arg(long)]
    check: bool,
    /// Install a missing toolchain (apt-get or rustup)
    #[arg(long)]
    install: bool,
    /// Take rustup's nightly compiler, also where Debian's is installed
    #[arg(long)]
    nightly: bool,
}

/// Builds, then writes or compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = project::root()?;
    let compiler = compiler::find(options.nightly, options.install)?;
    let linker = linker::provide(&compiler, options.install)?;
    eprintln!(
        "compiler: {} (LLVM {})\nlinker: bpf-linker {} (LLVM {})",
        compiler.version,
        compiler.llvm,
        linker::VERSION,
        linker.llvm
    );
    let built = object::build(&compiler, &linker)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let manifest = Manifest {
        sources: fingerprint::of_sources(&root).context("cannot read the eBPF sources")?,
        object: fingerprint::of_bytes(&bytes),
        aya_ebpf: aya_ebpf(&root)?,
        toolchain: Toolchain {
            rustc: compiler.version,
            rustc_llvm: compiler.llvm.to_string(),
            bpf_linker: linker::VERSION.to_owned(),
            bpf_linker_llvm: linker.llvm.to_string(),
        },
    };
    let committed = root.join("forkwatch/bpf");
    if options.check {
        return check(&committed, &manifest, &built);
    }
    fs::create_dir_all(&committed)?;
    fs::write(committed.join(OBJECT), &bytes)?;
    fs::write(committed.join("manifest.toml"), manifest.to_string())?;
    println!("wrote {} ({} bytes)", committed.join(OBJECT).display(), bytes.len());
    Ok(())
}

/// Compares what was just built with what is committed in `directory`.
fn check(directory: &Path, built: &Manifest, object: &Path) -> Result<()> {
    let text = fs::read_to_string(directory.join("manifest.toml"))
        .with_context(|| format!("there is no manifest; `{REMEDY}` writes it"))?;
    let committed = Manifest::parse(&text).map_err(anyhow::Error::msg)?;
    let bytes = fs::read(directory.join(OBJECT))
        .with_context(|| format!("there is no object; `{REMEDY}` builds it"))?;
    if fingerprint::of_bytes(&bytes) != committed.object {
        bail!("the committed object is not the one that its manifest describes; `{REMEDY}` builds it anew");
    }
    if built.sources != committed.sources {
        bail!("the eBPF sources have changed since the object was built; `{REMEDY}` builds it anew");
    }
    let differences = built.toolchain.differences(&committed.toolchain);
    if built.object == committed.object {
        println!("the committed eBPF object is what its sources compile to, byte for byte");
    } else if differences.is_empty() {
        bail!(
            "the manifest's own toolchain compiles the sources to another object ({}): `{REMEDY}` and commit",
            object.display()
        );
    } else {
        println!("the eBPF object was built with another toolchain, so its bytes differ:");
        for (program, here, there) in differences {
            println!("  {program}: {here} here, {there} in the manifest");
        }
        println!("`FORKWATCH_BPF_OBJECT={} cargo xtask test` tests the one built here", object.display());
    }
    Ok(())
}

impl Toolchain {
    /// The programs that differ: name, ours, the other's.
    fn differences<'a>(&'a self, other: &'a Self) -> Vec<(&'static str, &'a str, &'a str)> {
        let Self { rustc, rustc_llvm, bpf_linker, bpf_linker_llvm } = self;
        [
            ("rustc", rustc, &other.rustc),
            ("LLVM of rustc", rustc_llvm, &other.rustc_llvm),
            ("bpf-linker", bpf_linker, &other.bpf_linker),
            ("LLVM of bpf-linker", bpf_linker_llvm, &other.bpf_linker_llvm),
        ]
        .into_iter()
        .filter(|(_, here, there)| here != there)
        .map(|(program, here, there)| (program, here.as_str(), there.as_str()))
        .collect()
    }
}

/// The locked version of aya-ebpf.
fn aya_ebpf(root: &Path) -> Result<String> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let version =
        lock.split_once("name = \"aya-ebpf\"\nversion = \"").and_then(|(_, rest)| rest.split_once('"'));
    version.map(|(version, _)| version.to_owned()).context("Cargo.lock does not lock aya-ebpf")
}
