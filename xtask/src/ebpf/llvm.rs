//! LLVM: versions, and where one is installed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{apt, project::output};

/// An LLVM release. Bitcode of a newer major version cannot be read by an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The part that compiler and linker must share.
    pub(crate) major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Reads `22.1.8`, ignoring a suffix.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.').map(|part| {
            let digits = part
                .find(|character: char| !character.is_ascii_digit())
                .map_or(part, |end| part.split_at(end).0);
            digits.parse().ok()
        });
        Some(Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? })
    }

    /// The release that wrote a bitcode file. Its first block holds the name, as in `LLVM22.1.8`, in six-bit
    /// characters that start at any bit (llvm/lib/Bitcode/Writer/BitcodeWriter.cpp, `writeIdentificationBlock`).
    pub(crate) fn of_bitcode(bitcode: &[u8]) -> Option<Self> {
        let bit = |at: usize| Some(bitcode.get(at / 8)? >> (at % 8) & 1);
        let character = |at: usize| {
            let code = (0..6).try_fold(0, |code, index| Some(code | bit(at + index)? << index))?;
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"
                .get(usize::from(code))
                .map(|byte| char::from(*byte))
        };
        let text = |at: usize, length: usize| {
            (0..length).map_while(|index| character(at + 6 * index)).collect::<String>()
        };
        let start = (0..bitcode.len() * 8).find(|at| text(*at, 4) == "LLVM")?;
        Self::parse(&text(start + 24, 12))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Where LLVM of this major version is installed, with its development files: `LLVM_PREFIX`, or as its packages
/// lay it out.
pub(crate) fn prefix(major: u32, install: bool) -> Result<PathBuf> {
    let candidates = || {
        let given = std::env::var_os("LLVM_PREFIX").map(PathBuf::from);
        let packaged = PathBuf::from(format!("/usr/lib/llvm-{major}"));
        let configured = [format!("llvm-config-{major}"), "llvm-config".to_owned()]
            .into_iter()
            .filter_map(|program| output(Command::new(program).arg("--prefix")).ok().map(PathBuf::from));
        given.into_iter().chain([packaged]).chain(configured).find(|prefix| is_version(prefix, major))
    };
    if let Some(prefix) = candidates() {
        return Ok(prefix);
    }
    let package = format!("llvm-{major}-dev");
    if install && apt::has(&package) {
        apt::install(&[&package])?;
        if let Some(prefix) = candidates() {
            return Ok(prefix);
        }
    }
    bail!(
        "LLVM {major}, the compiler's, is not installed with its development files:\n  apt-get install -y \
         --no-install-recommends {package}\nor set LLVM_PREFIX"
    )
}

fn is_version(prefix: &Path, major: u32) -> bool {
    let version = output(Command::new(prefix.join("bin/llvm-config")).arg("--version"));
    version.ok().and_then(|version| Version::parse(&version)).is_some_and(|version| version.major == major)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` in six-bit characters after `skipped` other bits.
    fn bitcode(text: &str, skipped: usize) -> Vec<u8> {
        let alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._";
        let codes = text.chars().map(|character| alphabet.find(character).unwrap());
        let mut bits = vec![1; skipped];
        bits.extend(codes.flat_map(|code| (0..6).map(move |index| code >> index & 1)));
        bits.chunks(8)
            .map(|byte| byte.iter().rev().fold(0, |value, bit| value << 1 | u8::try_from(*bit).unwrap()))
            .collect()
    }

    #[test]
    fn a_version_is_read_without_its_suffix() {
        let version = Version::parse("22.1.8-rust-1.96.0-stable").unwrap();
        assert_eq!((version.major, version.to_string().as_str()), (22, "22.1.8"));
        assert_eq!(Version::parse("22.1"), None);
        assert_eq!(Version::parse(""), None);
    }

    #[test]
    fn bitcode_names_the_llvm_that_wrote_it_at_any_bit_offset() {
        for skipped in 0..16 {
            let found = Version::of_bitcode(&bitcode("LLVM21.1.3aaaa", skipped));
            assert_eq!(found, Version::parse("21.1.3"), "{skipped} bits skipped");
        }
    }

    #[test]
    fn other_bytes_name_no_llvm() {
        assert_eq!(Version::of_bitcode(&[]), None);
        assert_eq!(Version::of_bitcode(b"\x7fELF no bitcode at all"), None);
        assert_eq!(Version::of_bitcode(&bitcode("LLVM", 3)), None);
    }
}
