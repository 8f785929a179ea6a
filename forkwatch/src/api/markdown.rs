//! A finding as GitHub-flavoured Markdown: what one pastes into an issue.

use std::fmt::Write as _;

use serde_json::Value;

use super::Kept;

/// Further children that are named.
const ALSO: usize = 32;
/// Longest text of a value in the table.
const LONGEST: usize = 400;

/// The finding as a section with its evidence. Whatever a process has named is text, never markup, and mentions nobody.
pub fn markdown(kept: &Kept) -> String {
    let brief = &kept.brief;
    let mut text = format!("### {}\n\n{}\n\n", plain(&brief.hazard), plain(&brief.summary));
    text.push_str("| | |\n|---|---|\n");
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "| {name} | {value} |");
        }
    };
    let resolution = brief.resolution.as_deref().map_or_else(String::new, |how| format!(", {}", plain(how)));
    row("state", format!("{}{resolution}", brief.state.name()));
    row("how sure", name_of(&brief.certainty));
    row("severity", name_of(&brief.severity));
    row("program", plain(&brief.program));
    row("unit", brief.unit.as_deref().map(plain).unwrap_or_default());
    row("container", brief.container.as_deref().map(plain).unwrap_or_default());
    row("child", format!("{} (pid {})", plain(&brief.name), brief.pid));
    row("forked by", brief.parent_pid.map_or_else(String::new, |pid| format!("pid {pid}")));
    row("first seen", plain(&brief.first_seen));
    row("last seen", plain(&brief.last_seen));
    if brief.repeats > 0 {
        row("again", format!("{} times", brief.repeats));
        let also: Vec<String> = brief.also_pids.iter().take(ALSO).map(|pid| format!("pid {pid}")).collect();
        let more = (brief.also_pids.len() - also.len()) as u64 + brief.unnamed;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        row("also", also.join(", ") + &more);
    }
    let at = |pointer: &str| kept.report.pointer(pointer);
    if let Some(remedy) = at("/forkwatch/finding/remedy/text").and_then(Value::as_str) {
        let _ = writeln!(text, "\n**Fix:** {}", plain(remedy));
    }
    if let Some(link) = at("/forkwatch/finding/remedy/link").and_then(Value::as_str) {
        let _ = writeln!(text, "\nSee <{}>", link.replace(['<', '>', ' ', '\n'], ""));
    }
    if let Some(evidence) = at("/forkwatch/finding/evidence")
        && let Ok(evidence) = serde_json::to_string_pretty(evidence)
    {
        let fence = fence(&evidence);
        let _ = writeln!(
            text,
            "\n<details><summary>Evidence</summary>\n\n{fence}json\n{evidence}\n{fence}\n\n</details>"
        );
    }
    text
}

/// A name as documents have it.
fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A fence that the text does not contain.
fn fence(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// Text that Markdown shows as it is: no markup, no HTML, no mention, on one line.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars().take(LONGEST) {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            ':' if out.ends_with("http") || out.ends_with("https") => out.push_str("&#58;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(character);
            }
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::findings::test_brief;

    #[test]
    fn names_of_processes_stay_text() {
        let mut brief = test_brief();
        brief.name = "<img src=x>".to_owned();
        brief.program = "`|[a](http://b) @root #1\n# head".to_owned();
        let report = json!({ "forkwatch": { "finding": {
            "evidence": { "notes": ["``` </details>"] },
            "remedy": { "text": "Call *nothing*", "link": "https://example.org/<x>" },
        } } });
        let text = markdown(&Kept { brief, report, end: None });
        assert!(text.contains("&lt;img src=x&gt;"), "{text}");
        assert!(text.contains("\\`\\|\\[a\\](http&#58;//b) &#64;root &#35;1 &#35; head |\n"), "{text}");
        assert!(text.contains("\n````json\n"), "{text}");
        assert!(text.contains("**Fix:** Call \\*nothing\\*\n"), "{text}");
        assert!(text.contains("See <https://example.org/x>"), "{text}");
    }
}
