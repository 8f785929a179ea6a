//! `cargo xtask new-hazard`: the folder of a new hazard, its line in the catalogue, and its tests, all to be filled in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::project;

/// What the files of a new hazard begin with. `NAME`, `MODULE` and `TYPE` are replaced.
const DETECTOR: &str = include_str!("detector.txt");
const HAZARD: &str = include_str!("hazard.txt");
const TESTS: &str = include_str!("tests.txt");

/// Make the folder of a new hazard, with its detector, its words and its tests, and enter it in the catalogue
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Its id, as users will see it: lower case, with `-` between words
    name: String,
}

/// Makes it, and says what is to be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    for path in make(&project::root()?, &options.name)? {
        println!("{}", path.display());
    }
    println!(
        "\nNow write what hazard.rs says, which `forkwatch explain` and docs/hazards.md tell; the detector; the \
         timelines\nthat show the fault and its look-alikes; a program that has it in tests/fixtures. `cargo xtask \
         gen` makes the\ndocumentation."
    );
    Ok(())
}

/// What a hazard is called in the sources.
struct Names<'a> {
    /// `shared-event-loop`
    id: &'a str,
    /// `shared_event_loop`
    module: String,
    /// `SharedEventLoop`
    detector: String,
}

impl<'a> Names<'a> {
    fn of(id: &'a str) -> Result<Self> {
        let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        ensure!(
            id.split('-').all(word),
            "`{id}` is no id of a hazard: lower-case words, with `-` between them"
        );
        let capital = |word: &str| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        };
        Ok(Self { id, module: id.replace('-', "_"), detector: id.split('-').map(capital).collect() })
    }

    fn fill(&self, template: &str) -> String {
        template.replace("NAME", self.id).replace("MODULE", &self.module).replace("TYPE", &self.detector)
    }
}

/// Makes the files below the root of the project, and gives which were made or changed.
fn make(root: &Path, id: &str) -> Result<Vec<PathBuf>> {
    let names = Names::of(id)?;
    let detect = root.join("forkwatch/src/detect");
    let folder = detect.join(&names.module);
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let (catalogue, tests) = (detect.join("mod.rs"), detect.join("tests/mod.rs"));
    let changed =
        [(&catalogue, enter(&read(&catalogue)?, &names)?), (&tests, declare(&read(&tests)?, &names)?)];
    let made = [
        (folder.join("mod.rs"), names.fill(DETECTOR)),
        (folder.join("hazard.rs"), names.fill(HAZARD)),
        (detect.join("tests").join(format!("{}.rs", names.module)), names.fill(TESTS)),
    ];
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let all =
        made.iter().map(|(path, text)| (path, text)).chain(changed.iter().map(|(path, text)| (*path, text)));
    all.map(|(path, text)| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.clone())
    })
    .collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The catalogue with the hazard at its end, and the detector at the end of the list.
fn enter(text: &str, names: &Names<'_>) -> Result<String> {
    let Names { module, detector, .. } = names;
    let text = declare(text, names)?;
    let text = after(&text, "pub static CATALOGUE", "];", &format!("    &{module}::HAZARD,\n"))?;
    after(&text, "vec![", "    ]", &format!("        Box::<{module}::{detector}>::default(),\n"))
}

/// The text with a line `mod` for the hazard before the first that sorts after it.
fn declare(text: &str, names: &Names<'_>) -> Result<String> {
    let declared = |line: &&str| line.starts_with("mod ") && line.ends_with(';');
    let next =
        text.lines().filter(declared).find(|line| line[4..].trim_end_matches(';') > names.module.as_str());
    let last = text.lines().rfind(declared);
    let line = format!("mod {};\n", names.module);
    // What is written above a module belongs to it.
    let start = |next: &str| {
        let (at, attribute) = (text.find(next)?, "#[cfg(test)]\n");
        Some(if text[..at].ends_with(attribute) { at - attribute.len() } else { at })
    };
    let (at, beside) = match (next, last) {
        (Some(next), _) => (start(next), next),
        (None, Some(last)) => (text.find(last).map(|at| at + last.len() + 1), last),
        (None, None) => (None, ""),
    };
    let at = at.with_context(|| format!("no place for `mod {}` beside `{beside}`", names.module))?;
    Ok([&text[..at], &line, &text[at..]].concat())
}

/// The text with a line before the first end after a beginning.
fn after(text: &str, beginning: &str, end: &str, line: &str) -> Result<String> {
    let place = text.find(beginning).and_then(|from| Some(from + text[from..].find(end)?));
    let at = place.with_context(|| format!("detect/mod.rs has no `{beginning}` with `{end}` after it"))?;
    Ok([&text[..at], line, &text[at..]].concat())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// What is changed of the project, in a folder of its own.
    fn copy() -> TempDir {
        let (root, copy) = (project::root().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(copy.path().join("forkwatch/src/detect/tests")).unwrap();
        for file in ["forkwatch/src/detect/mod.rs", "forkwatch/src/detect/tests/mod.rs"] {
            fs::copy(root.join(file), copy.path().join(file)).unwrap();
        }
        copy
    }

    #[test]
    fn a_new_hazard_is_a_folder_and_its_line_in_the_catalogue() {
        let copy = copy();
        let made = make(copy.path(), "shared-loop").unwrap();
        let made: Vec<_> =
            made.iter().map(|path| path.strip_prefix(copy.path()).unwrap().display().to_string()).collect();
        let detect = "forkwatch/src/detect";
        assert_eq!(
            made,
            ["shared_loop/mod.rs", "shared_loop/hazard.rs", "tests/shared_loop.rs", "mod.rs", "tests/mod.rs"]
                .map(|file| format!("{detect}/{file}"))
        );
        for file in made {
            let text = fs::read_to_string(copy.path().join(&file)).unwrap();
            assert!(syn::parse_file(&text).is_ok(), "{file}");
            assert!(!text.contains("MODULE") && !text.contains("TYPE"), "{file}");
        }
        let catalogue = fs::read_to_string(copy.path().join("forkwatch/src/detect/mod.rs")).unwrap();
        for line in [
            "mod shared_loop;\n",
            "#[cfg(test)]\nmod tests;\n",
            "    &shared_loop::HAZARD,\n];",
            "        Box::<shared_loop::SharedLoop>::default(),\n    ]",
        ] {
            assert_eq!(catalogue.matches(line).count(), 1, "{line}");
        }
        let again = make(copy.path(), "shared-loop").unwrap_err().to_string();
        assert!(again.ends_with("shared_loop is there already"), "{again}");
    }

    #[test]
    fn what_is_no_id_is_refused_and_nothing_made() {
        let copy = copy();
        for id in ["", "Loop", "shared_loop", "shared--loop", "-loop", "loop2"] {
            let error = make(copy.path(), id).unwrap_err().to_string();
            assert!(error.contains("is no id of a hazard"), "{id}: {error}");
        }
        assert_eq!(fs::read_dir(copy.path().join("forkwatch/src/detect")).unwrap().count(), 2);
    }
}
