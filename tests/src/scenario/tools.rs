//! Everyday programs that fork all day and are safe: node, make with gcc, shells.

use std::{fs, path::Path};

use anyhow::Result;

use super::{Scenario, done};
use crate::{expectation::SILENCE, host::workspace, program::Launch, provided::provided};

/// Command substitutions, pipelines, and subshells that live on until the end of stdin.
const SHELL: &str = r#"
for number in 1 2 3 4 5 6 7 8 9 10; do
    text=$(echo "$number" | sed 's/1/2/' | tr 2 3)
    text=$(echo "$text"; (true); echo "$(true)")
    true &
done
wait
cat < "$0" > /dev/null
echo '{"done":true}'
( while read -r line; do :; done )
"#;

const MAKEFILE: &str = "program: main.o one.o two.o\n\tcc -o $@ $^\n%.o: %.c\n\tcc -pipe -c -o $@ $<\n";

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "node_spawns_beside_its_threads",
        expected: SILENCE,
        prepare: |_| Ok(Launch::new(provided("node")?).args([workspace().join("tests/fixtures/spawn.js")])),
        work: done,
        stop: None,
    },
    Scenario {
        name: "make_and_gcc_build_a_program",
        expected: SILENCE,
        prepare: project,
        work: |program| program.wait_for_success(),
        stop: None,
    },
    Scenario {
        name: "sh_runs_pipelines_and_substitutions",
        expected: SILENCE,
        prepare: |folder| shell("/bin/sh", folder),
        work: done,
        stop: None,
    },
    Scenario {
        // Unlike dash it blocks SIGCHLD around fork.
        name: "bash_runs_pipelines_and_substitutions",
        expected: SILENCE,
        prepare: |folder| shell("/bin/bash", folder),
        work: done,
        stop: None,
    },
];

fn project(folder: &Path) -> Result<Launch> {
    provided("libc-headers")?;
    provided("cc")?;
    fs::write(folder.join("Makefile"), MAKEFILE)?;
    fs::write(
        folder.join("main.c"),
        "int one(void), two(void);\nint main(void) { return one() - two(); }\n",
    )?;
    fs::write(folder.join("one.c"), "#include <stdio.h>\nint one(void) { return puts(\"one\"); }\n")?;
    fs::write(folder.join("two.c"), "#include <stdio.h>\nint two(void) { return puts(\"two\"); }\n")?;
    Ok(Launch::new(provided("make")?).args(["--jobs", "2"]))
}

fn shell(shell: &str, folder: &Path) -> Result<Launch> {
    fs::write(folder.join("script"), SHELL)?;
    Ok(Launch::new(shell).args(["script"]))
}
