//! The guest's file system: a cpio archive of the `newc` format
//! (<https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>).

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{arch::Arch, guest::Programs};
use crate::project;

/// A file that root may execute.
pub(crate) const EXECUTABLE: u32 = 0o100_755;
/// Ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Writes the archive; gives its path.
pub(crate) fn build(arch: Arch, programs: &Programs) -> Result<PathBuf> {
    let mut archive = Vec::new();
    for (name, path) in [("init", &programs.guest), ("forkwatch", &programs.forkwatch)] {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        entry(&mut archive, name, EXECUTABLE, &content)?;
    }
    end(&mut archive)?;
    let path = project::target()?.join("guest").join(arch.target()).join("initramfs");
    fs::write(&path, archive).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Adds a file.
pub(crate) fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
    let name_size = u32::try_from(name.len() + 1)?;
    // ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj, rmin, namesize, chksum
    let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
    Ok(())
}

/// Ends an archive. Another may follow it.
pub(crate) fn end(archive: &mut Vec<u8>) -> Result<()> {
    entry(archive, TRAILER, 0, &[])
}

/// Header with name, and content, both end on a multiple of 4.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Vec::new();
        entry(&mut archive, "init", EXECUTABLE, b"abcde").unwrap();
        let head = "07070100000000000081ed00000000000000000000000100000000\
                    0000000500000000000000000000000000000000\
                    0000000500000000";
        assert_eq!(archive, [head.as_bytes(), b"init\0\0", b"abcde\0\0\0"].concat());
    }
}
