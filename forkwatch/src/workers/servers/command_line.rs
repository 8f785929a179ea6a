//! What a command line sets.

/// A setting of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What is set, in the server's own words.
    pub name: &'static str,
    /// To what, as the command line has it.
    pub value: String,
}

/// An option of a command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opt {
    /// What it sets.
    pub(super) name: &'static str,
    /// How it is written: `-w`, `--workers`.
    pub(super) forms: &'static [&'static str],
    /// Whether a value follows.
    pub(super) has_value: bool,
}

impl Opt {
    /// One with a value.
    pub(super) const fn value(name: &'static str, forms: &'static [&'static str]) -> Self {
        Self { name, forms, has_value: true }
    }

    /// One without.
    pub(super) const fn flag(name: &'static str, forms: &'static [&'static str]) -> Self {
        Self { name, forms, has_value: false }
    }

    /// What the command line sets it to; `yes` for one without a value. The last one counts, as for all of these servers.
    pub(super) fn find(&self, words: &[String]) -> Option<String> {
        let mut found = None;
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            for form in self.forms {
                let Some(rest) = word.strip_prefix(form) else { continue };
                if !self.has_value {
                    found = rest.is_empty().then(|| "yes".to_owned()).or(found);
                } else if rest.is_empty() {
                    found = words.peek().map(|value| (*value).to_owned()).or(found);
                } else if let Some(value) = rest.strip_prefix('=') {
                    found = Some(value.to_owned());
                } else if !form.starts_with("--") {
                    found = Some(rest.to_owned());
                }
            }
        }
        found
    }
}

/// What the command line sets of these.
pub(super) fn settings(words: &[String], options: &[Opt]) -> Vec<Setting> {
    let setting = |option: &Opt| option.find(words).map(|value| Setting { name: option.name, value });
    options.iter().filter_map(setting).collect()
}

/// The number at the beginning of a text, with its dots: `8.2` of `8.2 (fpm)`.
pub(super) fn number(text: &str) -> Option<String> {
    let is_part = |character: char| character.is_ascii_digit() || character == '.';
    let end = text.find(|character| !is_part(character)).unwrap_or(text.len());
    let number = text.get(..end)?.trim_matches('.');
    (!number.is_empty()).then(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_option_is_found_in_each_of_its_forms() {
        let option = Opt::value("workers", &["-w", "--workers"]);
        for line in ["x -w 4", "x -w4", "x --workers 4", "x --workers=4", "x -w 2 --workers=4"] {
            assert_eq!(option.find(&words(line)).as_deref(), Some("4"), "{line}");
        }
        for line in ["x", "x --worker 4", "x --workers-max 4", "x -w"] {
            assert_eq!(option.find(&words(line)), None, "{line}");
        }
        let flag = Opt::flag("preload", &["--preload"]);
        assert_eq!(flag.find(&words("x --preload y")).as_deref(), Some("yes"));
        assert_eq!(flag.find(&words("x --preload-all")), None);
    }

    #[test]
    fn a_number_ends_where_words_begin() {
        assert_eq!(number("8.2 (fpm)").as_deref(), Some("8.2"));
        assert_eq!(number("6.4.2.").as_deref(), Some("6.4.2"));
        assert_eq!(number("x8"), None);
    }
}
