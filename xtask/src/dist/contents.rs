//! What the package installs, and where.

use std::path::Path;

use anyhow::Result;

use super::staging::{Staging, names};

/// The program, below the root.
pub(super) const PROGRAM: &str = "usr/bin/forkwatch";
/// What administrators may edit, below the root.
pub(super) const CONFFILE: &str = "etc/forkwatch/forkwatch.toml";

const DOCUMENTS: &str = "usr/share/doc/forkwatch";

/// Of the workspace, and their places. Debian 12 and 13 have one /usr, so /usr/lib/systemd is /lib/systemd on both.
const FILES: [(&str, &str); 6] = [
    ("dist/forkwatch.toml", CONFFILE),
    ("dist/forkwatch.service", "usr/lib/systemd/system/forkwatch.service"),
    ("dist/completions/forkwatch.bash", "usr/share/bash-completion/completions/forkwatch"),
    ("dist/completions/_forkwatch", "usr/share/zsh/vendor-completions/_forkwatch"),
    ("dist/completions/forkwatch.fish", "usr/share/fish/vendor_completions.d/forkwatch.fish"),
    ("dist/forkwatch.rules.yml", "usr/share/doc/forkwatch/examples/forkwatch.rules.yml"),
];

/// Of the workspace, into the folder of documents. `docs/` stays one, so that links hold.
const DOCUMENTATION: [&str; 7] = [
    "README.md",
    "SECURITY.md",
    "docs/events.schema.json",
    "docs/hazards.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/performance.md",
];

/// Puts everything in its place: this program, and what the workspace at `root` has beside it.
pub(super) fn stage(staging: &Staging, root: &Path, program: &Path, changelog: &str) -> Result<()> {
    staging.program(program, PROGRAM)?;
    for (from, to) in FILES {
        staging.file(&root.join(from), to)?;
    }
    for from in DOCUMENTATION {
        staging.file(&root.join(from), &format!("{DOCUMENTS}/{from}"))?;
    }
    staging.file(&root.join("dist/debian/copyright"), &format!("{DOCUMENTS}/copyright"))?;
    // Debian's policy, 12.1 and 12.7: these are compressed.
    staging.compressed(&root.join("CHANGELOG.md"), &format!("{DOCUMENTS}/changelog.gz"))?;
    let debian = staging.beside("changelog.Debian", changelog)?;
    staging.compressed(&debian, &format!("{DOCUMENTS}/changelog.Debian.gz"))?;
    for page in names(&root.join("dist/man"))? {
        staging.compressed(&root.join("dist/man").join(&page), &format!("usr/share/man/man1/{page}.gz"))?;
    }
    Ok(())
}
