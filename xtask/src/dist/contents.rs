//! What the package installs, and where.

use std::path::Path;

use anyhow::Result;

use super::staging::{Staging, names};

/// The program, below the root.
pub(super) const PROGRAM: &str = "usr/bin/forkwatch";
/// What administrators may edit, below the root.
pub(super) const CONFFILES: [&str; 2] = ["etc/forkwatch/forkwatch.toml", "etc/forkwatch/hooks.toml"];

const DOCUMENTS: &str = "usr/share/doc/forkwatch";

/// Of the workspace, and their places. Debian 12 and 13 have one /usr, so /usr/lib/systemd is /lib/systemd on both.
const FILES: [(&str, &str); 5] = [
    ("dist/forkwatch.toml", "etc/forkwatch/forkwatch.toml"),
    ("dist/hooks.toml", "etc/forkwatch/hooks.toml"),
    ("dist/forkwatch.service", "usr/lib/systemd/system/forkwatch.service"),
    ("dist/forkwatch-hooks.service", "usr/lib/systemd/system/forkwatch-hooks.service"),
    ("dist/forkwatch.rules.yml", "usr/share/doc/forkwatch/examples/forkwatch.rules.yml"),
];

/// Of what the program has generated, and their places.
const COMPLETIONS: [(&str, &str); 3] = [
    ("completions/forkwatch.bash", "usr/share/bash-completion/completions/forkwatch"),
    ("completions/_forkwatch", "usr/share/zsh/vendor-completions/_forkwatch"),
    ("completions/forkwatch.fish", "usr/share/fish/vendor_completions.d/forkwatch.fish"),
];

/// Of the workspace, into the folder of documents. `docs/` stays one, so that links hold.
const DOCUMENTATION: [&str; 24] = [
    "README.md",
    "SECURITY.md",
    "docs/api.md",
    "docs/api.openapi.json",
    "docs/ci.md",
    "docs/coming-from.md",
    "docs/events.schema.json",
    "docs/grafana-health.json",
    "docs/grafana-overview.json",
    "docs/grafana-server.json",
    "docs/hazards.md",
    "docs/hooks.md",
    "docs/inspect.schema.json",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/pictures/card.png",
    "docs/pictures/demo.svg",
    "docs/pictures/page.png",
    "docs/pictures/top.svg",
    "docs/pictures/worker.svg",
    "docs/renamed.md",
    "docs/rescue.md",
    "docs/rescue.schema.json",
];

/// Where everything comes from.
pub(super) struct Sources<'a> {
    /// The workspace.
    pub(super) root: &'a Path,
    /// The program, stripped.
    pub(super) program: &'a Path,
    /// What the program has generated.
    pub(super) generated: &'a Path,
    /// Debian's changelog.
    pub(super) changelog: &'a str,
}

/// Puts everything in its place.
pub(super) fn stage(staging: &Staging, sources: &Sources<'_>) -> Result<()> {
    let Sources { root, program, generated, changelog } = sources;
    staging.program(program, PROGRAM)?;
    for (from, to) in COMPLETIONS {
        staging.file(&generated.join(from), to)?;
    }
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
    let pages = generated.join("man");
    for page in names(&pages)? {
        staging.compressed(&pages.join(&page), &format!("usr/share/man/man1/{page}.gz"))?;
    }
    Ok(())
}
