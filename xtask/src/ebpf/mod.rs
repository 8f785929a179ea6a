//! `cargo xtask build-ebpf`: compiles the eBPF objects and writes each, with its manifest, to `forkwatch/bpf`.

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
use manifest::{LOGGING, Manifest, PLAIN, REMEDY, Toolchain, Variant};

/// Compile the eBPF objects and write each, with its manifest, to forkwatch/bpf
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing there; compare with the committed objects instead
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
    let sources = fingerprint::of_sources(&root).context("cannot read the eBPF sources")?;
    let (aya_ebpf, committed) = (aya_ebpf(&root)?, root.join("forkwatch/bpf"));
    let toolchain = Toolchain {
        rustc: compiler.version.clone(),
        rustc_llvm: compiler.llvm.to_string(),
        bpf_linker: linker::VERSION.to_owned(),
        bpf_linker_llvm: linker.llvm.to_string(),
    };
    for variant in [PLAIN, LOGGING] {
        let built = object::build(variant, &compiler, &linker)?;
        let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        if variant == PLAIN && logs(&bytes) {
            bail!("{} logs, which only {} may", variant.object, LOGGING.object);
        }
        let manifest = Manifest {
            sources: sources.clone(),
            object: fingerprint::of_bytes(&bytes),
            aya_ebpf: aya_ebpf.clone(),
            toolchain: toolchain.clone(),
        };
        if options.check {
            check(variant, &committed, &manifest, &built)?;
            continue;
        }
        fs::create_dir_all(&committed)?;
        fs::write(committed.join(variant.object), &bytes)?;
        fs::write(committed.join(variant.manifest), manifest.text(variant.object))?;
        println!("wrote {} ({} bytes)", committed.join(variant.object).display(), bytes.len());
    }
    Ok(())
}

/// Whether an object has anything of the log in it: aya-log's ring and level, or the programs' own count.
fn logs(object: &[u8]) -> bool {
    ["AYA_LOG", "LOGGED", "KERNEL_LOG"].iter().any(|name| contains(object, name.as_bytes()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Compares what was just built with what is committed in `directory`.
fn check(variant: Variant, directory: &Path, built: &Manifest, object: &Path) -> Result<()> {
    let text = fs::read_to_string(directory.join(variant.manifest))
        .with_context(|| format!("there is no {}; `{REMEDY}` writes it", variant.manifest))?;
    let committed = Manifest::parse(variant.manifest, &text).map_err(anyhow::Error::msg)?;
    let bytes = fs::read(directory.join(variant.object))
        .with_context(|| format!("there is no {}; `{REMEDY}` builds it", variant.object))?;
    let name = variant.object;
    if fingerprint::of_bytes(&bytes) != committed.object {
        bail!("the committed {name} is not the one that its manifest describes; `{REMEDY}` builds it anew");
    }
    if built.sources != committed.sources {
        bail!("the eBPF sources have changed since {name} was built; `{REMEDY}` builds it anew");
    }
    let differences = built.toolchain.differences(&committed.toolchain);
    if built.object == committed.object {
        println!("the committed {name} is what its sources compile to, byte for byte");
    } else if differences.is_empty() {
        bail!(
            "the manifest's own toolchain compiles the sources to another object ({}): `{REMEDY}` and commit",
            object.display()
        );
    } else {
        println!("{name} was built with another toolchain, so its bytes differ:");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_committed_objects_only_one_logs() {
        let read = |variant: Variant| {
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../forkwatch/bpf").join(variant.object))
                .unwrap()
        };
        assert!(!logs(&read(PLAIN)));
        assert!(logs(&read(LOGGING)));
    }
}
