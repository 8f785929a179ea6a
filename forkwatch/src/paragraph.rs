//! Text for a reader, in 80 columns.

const WIDTH: usize = 80;

/// Adds a paragraph, broken between words. It begins with `first`, and each further line with `further`. A word that
/// is longer than a line is left whole, so that it can be copied.
pub(crate) fn add(out: &mut String, first: &str, further: &str, text: &str) {
    out.push_str(first);
    let mut column = first.len();
    let mut start = true;
    for word in text.split_whitespace() {
        if !start && column + 1 + word.len() > WIDTH {
            out.push('\n');
            out.push_str(further);
            column = further.len();
        } else if !start {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
        start = false;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_not_cut() {
        let mut out = String::new();
        add(&mut out, "- ", "  ", &format!("see {} there", "x".repeat(90)));
        assert_eq!(out, format!("- see\n  {}\n  there\n", "x".repeat(90)));
    }

    #[test]
    fn a_line_takes_eighty_columns_and_no_more() {
        let mut out = String::new();
        add(&mut out, "", "> ", &format!("{} {} c", "a".repeat(40), "b".repeat(39)));
        assert_eq!(out, format!("{} {}\n> c\n", "a".repeat(40), "b".repeat(39)));
    }
}
