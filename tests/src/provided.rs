//! Where the programs are that `cargo xtask test` provides.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{
    host::{skip, workspace},
    program::{Launch, copy_program},
};

/// Where the loader looks for libraries first (`ld.so(8)`).
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// What the programs of a test's folder lie in, if another user is to run them.
pub(crate) const PROGRAMS: &str = "programs";

/// `real/provided.json` in the cache, as xtask writes it.
#[derive(Deserialize)]
struct Note {
    present: BTreeMap<String, Provided>,
    missing: BTreeMap<String, String>,
}

/// Something that `tests/provision.toml` names.
#[derive(Clone, Deserialize)]
pub struct Provided {
    /// Where it is.
    pub path: PathBuf,
    /// The directory that it was unpacked in, unless it is the host's.
    tree: Option<PathBuf>,
    #[serde(default)]
    libraries: Vec<PathBuf>,
}

impl Provided {
    /// Finds it; skips the test where it is not available.
    pub fn find(name: &str) -> Result<Self> {
        let cache = env::var_os("FORKWATCH_CACHE").map_or_else(|| workspace().join(".cache"), PathBuf::from);
        let note = cache.join("real/provided.json");
        let Ok(text) = fs::read(&note) else {
            return skip(format!("needs {name}: `cargo xtask test` provides it"));
        };
        let mut note: Note =
            serde_json::from_slice(&text).with_context(|| format!("{} is malformed", note.display()))?;
        match (note.present.remove(name), note.missing.get(name)) {
            (Some(found), _) => Ok(found),
            (None, Some(why)) => skip(format!("needs {name}: {why}")),
            (None, None) => anyhow::bail!("tests/provision.toml does not name {name}"),
        }
    }

    /// The same, where every user may run it: what was unpacked may lie in a directory that is root's alone. Then it is
    /// put into this one, by links where that is possible.
    pub fn for_everybody(self, folder: &Path) -> Result<Self> {
        let Some(tree) = &self.tree else { return Ok(self) };
        let place = folder.join(PROGRAMS);
        if !place.exists() {
            link_tree(tree, &place).with_context(|| format!("cannot put {} there", place.display()))?;
        }
        let moved = |path: &PathBuf| path.strip_prefix(tree).map(|rest| place.join(rest));
        let libraries = self.libraries.iter().map(moved).collect::<Result<_, _>>()?;
        Ok(Self { path: moved(&self.path)?, libraries, tree: Some(place) })
    }

    /// Another program in its directory.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        Self { path: self.path.with_file_name(name), ..self.clone() }
    }

    /// Runs it.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.path);
        command.envs(self.environment()?);
        Ok(command)
    }

    /// Has it run under watch.
    pub fn launch(&self) -> Result<Launch> {
        self.let_run(Launch::new(&self.path))
    }

    /// Lets another program use it: a shell that starts it, say.
    pub fn let_run(&self, launch: Launch) -> Result<Launch> {
        Ok(self.environment()?.into_iter().fold(launch, |launch, (name, value)| launch.env(name, value)))
    }

    fn environment(&self) -> Result<Option<(&'static str, OsString)>> {
        let path = env::join_paths(&self.libraries)?;
        Ok((!path.is_empty()).then_some((LIBRARY_PATH, path)))
    }
}

/// The path of something that `tests/provision.toml` names and that is installed or made here; skips the test where it
/// is not available.
pub fn provided(name: &str) -> Result<PathBuf> {
    Provided::find(name).map(|found| found.path)
}

/// Makes a tree of directories whose files are those of another.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            link_tree(&source, &copy)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(source)?, copy)?;
        } else if fs::hard_link(&source, &copy).is_err() {
            // Another file system.
            copy_program(&source, &copy)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_program_is_moved_with_its_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        fs::write(tree.join("usr/bin/program"), "it").unwrap();
        symlink("program", tree.join("usr/bin/other")).unwrap();
        let found = Provided {
            path: tree.join("usr/bin/program"),
            libraries: vec![tree.join("usr/lib")],
            tree: Some(tree),
        };
        let moved = found.for_everybody(folder.path()).unwrap();
        assert_eq!(moved.path, folder.path().join("programs/usr/bin/program"));
        assert_eq!(fs::read(moved.beside("other").path).unwrap(), b"it");
        let (name, value) = moved.environment().unwrap().unwrap();
        assert_eq!((name, value), (LIBRARY_PATH, folder.path().join("programs/usr/lib").into()));
    }

    #[test]
    fn a_program_of_the_host_stays_where_it_is() {
        let found = Provided { path: "/bin/sh".into(), tree: None, libraries: Vec::new() };
        let same = found.for_everybody(Path::new("/nowhere")).unwrap();
        assert_eq!((same.path.as_path(), same.environment().unwrap()), (Path::new("/bin/sh"), None));
    }
}
