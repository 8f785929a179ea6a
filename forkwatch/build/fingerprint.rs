//! The hash of everything that the eBPF objects are compiled from.
//!
//! Shared by the build script, which refuses an object that does not fit its sources, and by
//! `cargo xtask build-ebpf`, which makes the object. So it needs nothing but the standard library and sha2.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest as _, Sha256};

/// The crate that is compiled for the kernel, below the workspace's root.
pub(crate) const CRATE: &str = "forkwatch-ebpf";

/// Tables of the root `Cargo.toml` that shape the object; the package's version does not, only its edition.
const PROFILES: [&str; 2] = ["[profile.release]", "[profile.ebpf]"];

/// Hash of the sources below `root`, the workspace: the crate's files, the edition and profile that it is compiled
/// with, and the locked versions of aya-ebpf's and aya-log's crates.
///
/// It does not depend on the order in which a directory is read, nor on the line ends of a checkout.
pub(crate) fn of_sources(root: &Path) -> io::Result<String> {
    let mut canonical = String::new();
    let mut files = vec![PathBuf::from(CRATE).join("Cargo.toml")];
    collect(root, &PathBuf::from(CRATE).join("src"), &mut files)?;
    files.sort();
    for file in &files {
        add(&mut canonical, &file.to_string_lossy(), &read(&root.join(file))?);
    }
    let workspace = read(&root.join("Cargo.toml"))?;
    for profile in PROFILES {
        add(&mut canonical, profile, &table(&workspace, profile));
    }
    let edition = table(&workspace, "[workspace.package]")
        .lines()
        .find(|line| line.starts_with("edition"))
        .map(str::to_owned);
    add(&mut canonical, "edition", &edition.unwrap_or_default());
    add(&mut canonical, "Cargo.lock", &locked(&read(&root.join("Cargo.lock"))?));
    Ok(of_bytes(canonical.as_bytes()))
}

/// SHA-256 in lower-case hexadecimal digits.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Length before content, so that no two different inputs have the same canonical form.
fn add(canonical: &mut String, name: &str, content: &str) {
    // Writing to a string cannot fail.
    let _ = write!(canonical, "{name}\n{}\n{content}", content.len());
}

fn read(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(text.replace("\r\n", "\n"))
}

/// Adds the files below `directory`, as paths relative to `root`.
fn collect(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The settings of one table of a TOML file, without comments.
fn table(toml: &str, header: &str) -> String {
    toml.lines()
        .map(str::trim)
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .fold(String::new(), |settings, line| settings + line + "\n")
}

/// Version and checksum of aya-ebpf, aya-log and their companions, as `Cargo.lock` has them.
fn locked(lock: &str) -> String {
    lock.split("[[package]]\n")
        .filter(|package| {
            ["name = \"aya-ebpf", "name = \"aya-log"].iter().any(|name| package.starts_with(name))
        })
        .flat_map(|package| {
            package
                .lines()
                .filter(|line| ["name", "version", "checksum"].iter().any(|key| line.starts_with(key)))
        })
        .fold(String::new(), |versions, line| versions + line + "\n")
}
