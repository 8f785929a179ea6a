//! Programs of our own that fork in a known way: `tests/fixtures/c/*.c`, compiled at first use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context, Result, bail};

use crate::{
    host::workspace,
    program::{Launch, Program, copy_program},
    provided::provided,
};

/// The compiled fixture; a compiler is needed only where it is not compiled yet.
pub fn fixture(name: &str) -> Result<PathBuf> {
    // Tests of one binary run side by side.
    static COMPILING: Mutex<()> = Mutex::new(());
    let sources = workspace().join("tests/fixtures/c");
    let source = sources.join(name).with_extension("c");
    let folder = binary_folder()?.join("fixtures");
    let binary = folder.join(name);
    let _guard = COMPILING.lock();
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let newest = changed(&source).with_context(|| format!("no {}", source.display()))?;
    let newest = ["fixture.h", "held.h", "socket_fixture.h"].iter().try_fold(newest, |newest, header| {
        changed(&sources.join(header)).map(|changed| newest.max(changed))
    })?;
    if changed(&binary).is_ok_and(|compiled| compiled > newest) {
        return Ok(binary);
    }
    provided("libc-headers")?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Other test binaries may do the same at this moment: rename(2) puts a whole file in place.
    let fresh = folder.join(format!("{name}.{}", std::process::id()));
    let output = Command::new(provided("cc")?)
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .args([&fresh, &source])
        .args(name.starts_with("openmp").then_some("-fopenmp"))
        .output()
        .context("cannot run cc")?;
    if !output.status.success() {
        bail!("{} does not compile: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&fresh, &binary).context("cannot put the fixture in place")?;
    Ok(binary)
}

/// A fixture that is held before its exec.
pub fn hold(name: &str, arguments: &[&str]) -> Result<Program> {
    let binary = fixture(name)?;
    Program::hold(|_| Ok(Launch::new(binary).args(arguments)))
}

/// A fixture under another name, held before its exec: a program that nobody else on this host runs.
pub fn hold_as(name: &str, alias: &str, arguments: &[&str]) -> Result<Program> {
    let binary = fixture(name)?;
    Program::hold(|folder| {
        let link = folder.join(alias);
        std::os::unix::fs::symlink(binary, &link).context("cannot link the fixture")?;
        Ok(Launch::new(link).args(arguments))
    })
}

/// A fixture that another user runs, held before its exec: as a copy, for the build's folder may not be open to all.
pub fn hold_for(user: &'static str, name: &str) -> Result<Program> {
    let binary = fixture(name)?;
    Program::hold(|folder| {
        let copy = folder.join(name);
        copy_program(&binary, &copy)?;
        Ok(Launch::new(copy).user(user))
    })
}

/// Where cargo put the test binaries' parent: `target/debug`.
pub fn binary_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where the test lies")?;
    let folder = own.parent().and_then(Path::parent).context("the test does not lie in a target folder")?;
    Ok(folder.to_owned())
}
