//! The archive: made in memory, and written at once to a file that only its owner may read.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

/// Most bytes of one file in it; of a longer one, its beginning.
const LONGEST: usize = 16 << 20;

/// A tar archive in which all lies in one folder.
pub(super) struct Archive {
    folder: String,
    tar: tar::Builder<Vec<u8>>,
    files: usize,
    now: u64,
}

/// Says at once that nothing will be overwritten.
pub(super) fn refuse_existing(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("{} is there already: name another file with --output", path.display());
    }
    Ok(())
}

impl Archive {
    /// An empty one.
    pub(super) fn new(folder: String) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        Self { folder, tar: tar::Builder::new(Vec::new()), files: 0, now }
    }

    /// Adds a file.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let content = content.get(..LONGEST).unwrap_or(content);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        let path = format!("{}/{name}", self.folder);
        self.tar.append_data(&mut header, &path, content).with_context(|| format!("cannot add {path}"))?;
        self.files += 1;
        Ok(())
    }

    /// Writes it to a new file, all or nothing; gives how many files and bytes there are.
    pub(super) fn write(self, path: &Path) -> Result<(usize, u64)> {
        let bytes = self.tar.into_inner().context("cannot end the archive")?;
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.with_context(|| format!("cannot make {}", path.display()))?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Half an archive is of no use to anybody.
            let _ = fs::remove_file(path);
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
        Ok((self.files, bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn what_is_added_is_read_back_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        refuse_existing(&path).unwrap();
        let mut archive = Archive::new("forkwatch-1".to_owned());
        archive.add("a.txt", b"one").unwrap();
        archive.add("child-7/maps", b"two").unwrap();
        assert_eq!(archive.write(&path).unwrap().0, 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut read = tar::Archive::new(fs::File::open(&path).unwrap());
        let files: Vec<(String, String)> = read
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (entry.path().unwrap().display().to_string(), text)
            })
            .collect();
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(files, [file("forkwatch-1/a.txt", "one"), file("forkwatch-1/child-7/maps", "two")]);
        assert!(refuse_existing(&path).is_err());
        assert!(Archive::new(String::new()).write(&path).is_err(), "nothing is overwritten");
    }
}
