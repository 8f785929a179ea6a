//! `cargo xtask house`: whether the imports of forkwatch run as ARCHITECTURE.md says, and never in a circle.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use self::imports::Imports;
use crate::project;

/// Before the lines that say what may import what; they end with the block of code.
const ARROWS: &str = "```arrows\n";

/// Check that the imports of forkwatch run as ARCHITECTURE.md says, and never in a circle
#[derive(clap::Args)]
pub(crate) struct Options {}

/// Says what is wrong, and fails if anything is.
pub(crate) fn run(_: &Options) -> Result<()> {
    let wrong = check(&project::root()?)?;
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"));
}

/// What is wrong with the imports, a line each.
fn check(root: &Path) -> Result<Vec<String>> {
    let file = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let drawn = arrows(&text)?;
    let imports = Imports::read(&root.join("forkwatch/src"))?;
    let mut wrong = against(&drawn, &imports.below(&[]));
    wrong.extend(circles(&imports));
    Ok(wrong)
}

/// The arrows that are drawn: a line for each part of the house, `from -> to to`.
fn arrows(text: &str) -> Result<BTreeMap<&str, BTreeSet<&str>>> {
    let (_, rest) = text.split_once(ARROWS).context("ARCHITECTURE.md has no block of arrows")?;
    let (block, _) = rest.split_once("```").context("the block of arrows in ARCHITECTURE.md has no end")?;
    let arrow = |line| -> Result<(&str, BTreeSet<&str>)> {
        let (from, to) = str::split_once(line, "->").with_context(|| format!("no arrow: {line}"))?;
        Ok((from.trim(), to.split_whitespace().collect()))
    };
    block.lines().map(arrow).collect()
}

/// Where imports and arrows differ.
fn against(drawn: &BTreeMap<&str, BTreeSet<&str>>, found: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let parts: BTreeSet<&str> = drawn.keys().chain(found.keys()).copied().collect();
    let differ = |part: &str| {
        let (Some(drawn), Some(found)) = (drawn.get(part), found.get(part)) else {
            let lacks = if drawn.contains_key(part) { "the sources" } else { "ARCHITECTURE.md" };
            return vec![format!("`{part}` is not in {lacks}")];
        };
        let against = found.difference(drawn).map(|to| format!("`{part}` imports `{to}`: no arrow runs so"));
        let idle =
            drawn.difference(found).map(|to| format!("`{part}` does not import `{to}`: remove the arrow"));
        against.chain(idle).collect()
    };
    parts.into_iter().flat_map(differ).collect()
}

/// Modules beside each other that import each other, in a circle of any length.
fn circles(imports: &Imports) -> Vec<String> {
    let parents: BTreeSet<&[String]> =
        imports.0.keys().filter_map(|module| module.split_last()).map(|(_, parent)| parent).collect();
    let circle = |parent: &[String]| {
        let below = imports.below(parent);
        let circle = below.keys().find_map(|part| way_back(part, &below))?;
        let place =
            if parent.is_empty() { "the crate".to_owned() } else { format!("`{}`", parent.join("::")) };
        Some(format!("in {place} imports run in a circle: {}", circle.join(" -> ")))
    };
    parents.into_iter().filter_map(circle).collect()
}

/// The shortest way from a part back to itself.
fn way_back<'a>(part: &'a str, arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![part]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| arrows.get(last)).into_iter().flatten() {
            let longer = [way.as_slice(), &[*next]].concat();
            if *next == part {
                return Some(longer);
            }
            if seen.insert(*next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_as_it_is_drawn() {
        assert_eq!(check(&project::root().unwrap()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_told_and_one_that_nobody_uses_too() {
        let drawn = arrows("x\n```arrows\ncli -> core model\ncore -> model\nmodel ->\n```\n").unwrap();
        let found = BTreeMap::from([
            ("cli", BTreeSet::from(["core"])),
            ("core", BTreeSet::from(["model", "cli"])),
            ("new", BTreeSet::new()),
        ]);
        assert_eq!(
            against(&drawn, &found),
            [
                "`cli` does not import `model`: remove the arrow",
                "`core` imports `cli`: no arrow runs so",
                "`model` is not in the sources",
                "`new` is not in ARCHITECTURE.md",
            ]
        );
        assert!(arrows("nothing").is_err() && arrows("```arrows\nno\n```").is_err());
    }

    #[test]
    fn a_circle_is_found_however_long_it_is() {
        let arrows = BTreeMap::from([
            ("a", BTreeSet::from(["b"])),
            ("b", BTreeSet::from(["c", "d"])),
            ("c", BTreeSet::from(["a"])),
        ]);
        assert_eq!(way_back("a", &arrows), Some(vec!["a", "b", "c", "a"]));
        assert_eq!(way_back("d", &arrows), None);
    }
}
