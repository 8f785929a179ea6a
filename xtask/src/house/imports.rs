//! Which module of a crate imports which, read from its sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use syn::{
    Attribute, Item, ItemUse, UseTree,
    visit::{self, Visit},
};

/// A module by the names that lead to it from the crate; none for the crate itself.
pub(super) type Module = Vec<String>;

/// What each module imports. Tests are left out: they may look at everything.
#[derive(Default)]
pub(super) struct Imports(pub(super) BTreeMap<Module, BTreeSet<Module>>);

impl Imports {
    /// Those of the crate whose sources lie in this folder.
    pub(super) fn read(sources: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(sources, &mut files)?;
        let modules: BTreeMap<Module, &Path> = files
            .iter()
            .filter_map(|file| Some((module(file.strip_prefix(sources).ok()?)?, &**file)))
            .collect();
        let (mut imports, mut of_tests) = (Self::default(), BTreeSet::new());
        for (module, file) in &modules {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let parsed =
                syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
            let mut paths = Paths::default();
            paths.visit_file(&parsed);
            of_tests.extend(
                paths.tests.iter().map(|name| [module.as_slice(), std::slice::from_ref(name)].concat()),
            );
            let imported = paths.found.iter().filter_map(|path| resolve(module, path, &modules));
            imports.0.entry(module.clone()).or_default().extend(imported.filter(|other| other != module));
        }
        imports.0.retain(|module, _| !of_tests.iter().any(|tests| module.starts_with(tests)));
        Ok(imports)
    }

    /// Of the modules directly below this one, which import which, by whatever lies below them.
    pub(super) fn below(&self, parent: &[String]) -> BTreeMap<&str, BTreeSet<&str>> {
        let name = |module: &'_ Module| module.strip_prefix(parent).and_then(<[String]>::first).cloned();
        let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, imported) in &self.0 {
            let Some(from) = module.get(parent.len()).filter(|_| name(module).is_some()) else { continue };
            let to = imported.iter().filter(|other| name(other).is_some());
            let to = to.filter_map(|other| other.get(parent.len())).filter(|to| *to != from);
            below.entry(from).or_default().extend(to.map(String::as_str));
        }
        below
    }
}

/// Every source file below a folder that is no test.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "tests" | "tests.rs" => {}
            _ if path.is_dir() => list(&path, files)?,
            _ if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// The module in a file, by its path within the sources; none for what is a program.
fn module(file: &Path) -> Option<Module> {
    let mut names: Module =
        file.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    match names.last()?.as_str() {
        "mod" | "lib" => drop(names.pop()),
        "main" => return None,
        _ => {}
    }
    Some(names)
}

/// The module that a path within another leads to, or leads through to something in it.
fn resolve(from: &Module, path: &[String], modules: &BTreeMap<Module, &Path>) -> Option<Module> {
    let (mut at, rest) = match path.split_first()? {
        (first, rest) if first == "crate" => (Module::new(), rest),
        (first, rest) if first == "self" => (from.clone(), rest),
        (first, _) if first == "super" => {
            let up = path.iter().take_while(|name| *name == "super").count();
            (from.get(..from.len().checked_sub(up)?)?.to_vec(), path.get(up..)?)
        }
        // A module of its own, or a crate.
        (first, _) => {
            let own = [from.as_slice(), std::slice::from_ref(first)].concat();
            modules.contains_key(&own).then(|| (from.clone(), path))?
        }
    };
    for name in rest {
        at.push(name.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
    }
    // The crate itself is no module that could be imported: something is named that it passes on.
    Some(at).filter(|at| !at.is_empty())
}

/// What is found in a file.
#[derive(Default)]
struct Paths {
    /// The paths outside of its tests.
    found: Vec<Vec<String>>,
    /// The modules that are for tests alone.
    tests: Vec<String>,
}

impl Paths {
    fn add(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.found.push(with(name.ident.to_string())),
            UseTree::Rename(rename) => self.found.push(with(rename.ident.to_string())),
            UseTree::Glob(_) => self.found.push(prefix.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add(prefix, item)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(module) => &module.attrs,
            Item::Use(import) => &import.attrs,
            Item::Fn(function) => &function.attrs,
            Item::Impl(block) => &block.attrs,
            _ => return visit::visit_item(self, item),
        };
        match item {
            _ if !attributes.iter().any(is_for_tests) => visit::visit_item(self, item),
            Item::Mod(module) => self.tests.push(module.ident.to_string()),
            _ => {}
        }
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.add(&[], &import.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// `#[cfg(test)]`, and any other condition that names tests.
fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Imports::read(folder.path()).unwrap()
    }

    fn edges(imports: &Imports) -> Vec<String> {
        let edge = |(from, to): (&Module, &BTreeSet<Module>)| {
            to.iter().map(|to| format!("{} {}", from.join("/"), to.join("/"))).collect::<Vec<_>>()
        };
        imports.0.iter().flat_map(edge).collect()
    }

    #[test]
    fn every_way_to_name_a_module_is_seen() {
        let found = imports(&[
            ("lib.rs", "pub mod a; mod b; mod c;"),
            (
                "a/mod.rs",
                "mod x; use crate::{b::B, c::{self, D as E}}; fn f() { x::g(); std::mem::take(&mut 0); }",
            ),
            ("a/x.rs", "use super::super::c::D; fn g() { let _: crate::b::B = super::f(); }"),
            ("b.rs", "pub struct B;"),
            ("c.rs", "pub struct D;"),
            ("main.rs", "use a::x;"),
        ]);
        assert_eq!(edges(&found), ["a a/x", "a b", "a c", "a/x a", "a/x b", "a/x c"]);
    }

    #[test]
    fn tests_may_look_at_everything() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)] mod tests { use crate::b::B; } #[cfg(any(test, fuzzing))] use crate::b;"),
            ("b.rs", "#[cfg(test)] mod looks;"),
            ("b/looks.rs", "use crate::a;"),
            ("b/tests.rs", "use crate::a;"),
            ("tests/mod.rs", "use crate::a;"),
        ]);
        assert_eq!(edges(&found), Vec::<String>::new());
    }

    #[test]
    fn below_a_module_its_parts_are_seen_by_whatever_lies_in_them() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod x; mod y;"),
            ("a/x/mod.rs", "mod deep;"),
            ("a/x/deep.rs", "use crate::a::y::Y; use crate::b::B;"),
            ("a/y.rs", "pub struct Y;"),
            ("b.rs", "pub struct B;"),
        ]);
        assert_eq!(found.below(&["a".to_owned()])["x"], BTreeSet::from(["y"]));
        assert_eq!(found.below(&[])["a"], BTreeSet::from(["b"]));
    }
}
