//! The examples of `docs/hooks.md`, taken from the page itself: what is tested is what stands there.

use anyhow::{Context as _, Result, bail, ensure};

/// The headings of examples are of this level. Each of them says which drop-in it needs.
const EXAMPLE: &str = "### ";
/// How an example says that it needs nothing beside its hooks.
const NO_DROP_IN: &str = "needs no drop-in";
/// How an example says that it needs what the last one does.
const SAME_DROP_IN: &str = "The drop-in is that of the example before.";

/// A section of the page that has hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Its heading.
    pub title: String,
    /// Its hooks, for `hooks.toml`.
    pub hooks: String,
    /// The programs whose text it shows: path and text.
    pub programs: Vec<(String, String)>,
    /// What is to stand in a drop-in of the service; empty if it needs none.
    pub drop_in: String,
    /// The pieces of code within its text, in their order.
    pub code: Vec<String>,
}

/// A block of code.
struct Block {
    language: String,
    /// The text above it.
    above: String,
    text: String,
}

/// What stands under one heading.
#[derive(Default)]
struct Section {
    heading: String,
    /// Its text without the blocks, on one line.
    text: String,
    blocks: Vec<Block>,
}

/// All sections of the page that have hooks, in their order.
pub fn examples(page: &str) -> Result<Vec<Example>> {
    let mut examples: Vec<Example> = Vec::new();
    for section in sections(page)? {
        if let Some(example) = section.example(examples.last())? {
            examples.push(example);
        }
    }
    Ok(examples)
}

/// The example with this heading.
pub fn example(page: &str, title: &str) -> Result<Example> {
    let found = examples(page)?.into_iter().find(|example| example.title == title);
    found.with_context(|| format!("the page has no example {title:?}"))
}

impl Section {
    /// What it is as an example, if it has hooks. `before` is the example before it.
    fn example(&self, before: Option<&Example>) -> Result<Option<Example>> {
        let joined = |language: &str| {
            let blocks = self.blocks.iter().filter(|block| block.language == language);
            blocks.map(|block| block.text.as_str()).collect::<Vec<_>>().join("\n")
        };
        let hooks = joined("toml");
        if hooks.is_empty() {
            return Ok(None);
        }
        let title = self.heading.trim_start_matches('#').trim().to_owned();
        let mut drop_in = joined("ini");
        if drop_in.is_empty() && self.text.contains(SAME_DROP_IN) {
            let before = before.with_context(|| format!("{title:?} is the first example"))?;
            drop_in.clone_from(&before.drop_in);
        }
        if drop_in.is_empty() && self.heading.starts_with(EXAMPLE) && !self.text.contains(NO_DROP_IN) {
            bail!("{title:?} does not say which drop-in it needs");
        }
        let programs = self.blocks.iter().filter(|block| block.language == "sh").filter_map(Block::program);
        let code = self.text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Ok(Some(Example { title, hooks, programs: programs.collect(), drop_in, code }))
    }
}

impl Block {
    /// The path and the text of a program: nothing but its path, and a colon, stands above it.
    fn program(&self) -> Option<(String, String)> {
        let path = self.above.strip_prefix('`')?.strip_suffix("`:")?;
        path.starts_with('/').then(|| (path.to_owned(), self.text.clone()))
    }
}

/// The page by its headings.
fn sections(page: &str) -> Result<Vec<Section>> {
    let mut sections = vec![Section::default()];
    let mut above = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let section = sections.last_mut().context("there is always one")?;
        if let Some(language) = line.strip_prefix("```") {
            let mut text = String::new();
            loop {
                let line = lines.next().with_context(|| format!("a block of {language:?} has no end"))?;
                if line == "```" {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            section.blocks.push(Block { language: language.to_owned(), above: above.clone(), text });
        } else if line.starts_with('#') {
            ensure!(line.trim_start_matches('#').starts_with(' '), "no heading: {line}");
            sections.push(Section { heading: line.to_owned(), ..Section::default() });
        } else if !line.is_empty() {
            line.clone_into(&mut above);
            section.text.push_str(line);
            section.text.push(' ');
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/hooks.md");

    #[test]
    fn the_page_has_examples_with_what_each_needs() {
        let examples = examples(PAGE).unwrap();
        assert!(examples.len() >= 7, "{examples:#?}");
        for example in &examples {
            assert!(example.hooks.starts_with("[[hook]]\n"), "{example:#?}");
            assert!(example.drop_in.is_empty() || example.drop_in.starts_with("[Service]\n"), "{example:#?}");
            // A program of the project's own folder stands on the page.
            for word in example.hooks.split('"').filter(|word| word.starts_with("/usr/local/lib/forkwatch/"))
            {
                let is_shown =
                    example.programs.iter().any(|(path, text)| path == word && text.starts_with("#!"));
                assert!(is_shown, "{word} is not shown: {example:#?}");
            }
        }
    }

    #[test]
    fn a_section_gives_hooks_programs_and_drop_in_as_they_stand_there() {
        let page = "# A\n\n```sh\ncommand\n```\n\n### B\n\nWith `one` and\n`two`.\n\n```toml\n[[hook]]\n\n# x\n```\n\n\
                    `/bin/b`:\n\n```sh\n#!/bin/sh\nb\n```\n\n```ini\n[Service]\nX=y\n```\n\n### C\n\nThe drop-in is\nthat \
                    of the example before. `/bin/c` does it:\n\n```toml\nc\n```\n\n```sh\nno program\n```\n";
        let [b, c] = <[Example; 2]>::try_from(examples(page).unwrap()).unwrap();
        assert_eq!(
            b,
            Example {
                title: "B".to_owned(),
                hooks: "[[hook]]\n\n# x\n".to_owned(),
                programs: vec![("/bin/b".to_owned(), "#!/bin/sh\nb\n".to_owned())],
                drop_in: "[Service]\nX=y\n".to_owned(),
                code: ["one", "two", "/bin/b"].map(str::to_owned).to_vec(),
            }
        );
        assert_eq!((c.title.as_str(), c.drop_in), ("C", b.drop_in));
        assert!(c.programs.is_empty(), "{:?}", c.programs);
        assert_eq!(example(page, "C").unwrap().hooks, "c\n");
        assert!(example(page, "D").is_err());
    }

    #[test]
    fn an_example_that_does_not_say_what_it_needs_is_refused() {
        let page =
            |text: &str| format!("## Key\n\n```toml\nk\n```\n\n### Example\n\n{text}\n\n```toml\nx\n```\n");
        assert!(examples(&page("It works.")).unwrap_err().to_string().contains("\"Example\" does not say"));
        assert_eq!(examples(&page("It needs\nno drop-in.")).unwrap().len(), 2);
        assert!(examples("```toml\nx\n").unwrap_err().to_string().contains("has no end"));
    }
}
