//! Puts the committed eBPF objects where the library includes them, that with the log compressed, having checked that they
//! fit their sources, and tells the program its revision and compiler.
//!
//! `FORKWATCH_BPF_OBJECT` names another object to build in, unchecked, and so is the one with the kernel log that lies
//! beside it: so the tests run on what was just compiled with a toolchain other than the manifest's.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

#[path = "build/fingerprint.rs"]
mod fingerprint;
#[path = "build/manifest.rs"]
mod manifest;

use manifest::{LOGGING, Manifest, PLAIN, REMEDY, Variant};

/// How hard the object with the log is compressed, of 10.
const BEST: u8 = 9;

const OVERRIDE: &str = "FORKWATCH_BPF_OBJECT";

/// What the fingerprint is taken of, below the workspace's root.
const SOURCES: [&str; 4] = ["forkwatch-ebpf/src", "forkwatch-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let package = directory("CARGO_MANIFEST_DIR")?;
    // A package from a registry has no workspace around it: its object was checked when it was packed.
    let workspace =
        package.parent().filter(|root| root.join(fingerprint::CRATE).join("Cargo.toml").is_file());
    for variant in [PLAIN, LOGGING] {
        object(variant, &package, workspace)?;
    }
    if let Some(revision) = revision(&package, workspace) {
        println!("cargo::rustc-env=FORKWATCH_REVISION={revision}");
    }
    if let Some(version) = output(Command::new(directory("RUSTC")?).arg("--version")) {
        println!("cargo::rustc-env=FORKWATCH_RUSTC={version}");
    }
    Ok(())
}

/// Copies an object, checked, into the build directory.
fn object(variant: Variant, package: &Path, workspace: Option<&Path>) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let Variant { object, manifest, feature: _ } = variant;
    let bpf = package.join("bpf");
    let other = other(variant);
    let (path, manifest_path) = (other.clone().unwrap_or_else(|| bpf.join(object)), bpf.join(manifest));
    watch(&path);
    watch(&manifest_path);
    let bytes = read(&path)?;
    if other.is_none() {
        let text = String::from_utf8_lossy(&read(&manifest_path)?).into_owned();
        let manifest = Manifest::parse(manifest, &text)?;
        if fingerprint::of_bytes(&bytes) != manifest.object {
            return Err(format!(
                "forkwatch/bpf/{object} is not the eBPF object that its manifest describes; `{REMEDY}` builds it anew"
            ));
        }
        if let Some(root) = workspace {
            check_sources(root, object, &manifest)?;
        }
    }
    let mut copy = directory("OUT_DIR")?.join(object);
    let mut bytes = bytes;
    // It is seldom loaded, and most of it says what is where in the rest.
    if variant == LOGGING {
        bytes = miniz_oxide::deflate::compress_to_vec(&bytes, BEST);
        copy.set_extension("deflate");
    }
    fs::write(&copy, bytes).map_err(|error| format!("cannot write {}: {error}", copy.display()))
}

/// The object that the environment names in its place; the one with the kernel log, where it lies beside it.
fn other(variant: Variant) -> Option<PathBuf> {
    let plain = env::var_os(OVERRIDE).map(PathBuf::from)?;
    if variant == PLAIN {
        return Some(plain);
    }
    Some(plain.with_file_name(variant.object)).filter(|beside| beside.is_file())
}

fn check_sources(root: &Path, object: &str, manifest: &Manifest) -> Result<(), String> {
    for input in SOURCES {
        watch(&root.join(input));
    }
    let sources =
        fingerprint::of_sources(root).map_err(|error| format!("cannot read the eBPF sources: {error}"))?;
    if sources == manifest.sources {
        Ok(())
    } else {
        Err(format!(
            "the eBPF sources have changed since forkwatch/bpf/{object} was built; `{REMEDY}` builds it anew"
        ))
    }
}

/// The commit that is built: git's in a checkout of this project, cargo's record in a package.
fn revision(package: &Path, workspace: Option<&Path>) -> Option<String> {
    let Some(root) = workspace else {
        let record = fs::read_to_string(package.join(".cargo_vcs_info.json")).ok()?;
        return Some(record.split_once("\"sha1\": \"")?.1.split_once('"')?.0.to_owned());
    };
    let git = |arguments: &[&str]| output(Command::new("git").arg("-C").arg(root).args(arguments));
    // Sources unpacked inside somebody else's repository are not of that repository's revision.
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // A checkout moves HEAD; a commit moves what HEAD names, which the log of HEAD shows wherever that is kept.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            watch(&root.join(path));
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// Runs the script again when this changes; a path that does not exist would run it every time.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}; `{REMEDY}` builds it", path.display()))
}

/// A directory or program that cargo tells its build scripts.
fn directory(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set: build with cargo"))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
