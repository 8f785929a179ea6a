//! A recording as a drawing that plays it, without a script and with nothing from elsewhere: what a line looks like, and when
//! it is there, stands in the drawing's own style sheet.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::screen::{HEIGHT, MARGIN, Style, WIDTH, escaped, line};

/// Lines that came at once are shown one after the other, so many in a second: nobody reads them at once.
const LINES_IN_A_SECOND: f64 = 12.0;
/// Longest time for which nothing new is shown.
const LONGEST_PAUSE: f64 = 1.5;
/// How long the last screen is shown.
const LAST: f64 = 12.0;

/// The first line of a cast.
#[derive(Deserialize)]
struct Head {
    version: u32,
    width: u32,
    height: u32,
}

/// Draws a cast in which lines are written one below the other.
pub(super) fn drawing(cast: &str, title: &str) -> Result<String> {
    let mut rest = cast.lines();
    let head: Head = serde_json::from_str(rest.next().context("the cast is empty")?)?;
    ensure!(head.version == 2, "the cast has version {}", head.version);
    let mut shown: Vec<(f64, String)> = Vec::new();
    let (mut at, mut before, mut open) = (0.0_f64, 0.0_f64, String::new());
    for piece in rest {
        let (time, kind, text): (f64, String, Value) = serde_json::from_str(piece)?;
        ensure!(kind == "o", "the cast has something other than output");
        at += (time - before).min(LONGEST_PAUSE);
        before = time;
        for part in text.as_str().context("the output is no text")?.split_inclusive('\n') {
            open += part.trim_end_matches(['\r', '\n']);
            if part.ends_with('\n') {
                let last = shown.last().map_or(0.0, |(last, _)| *last);
                shown.push((at.max(last + 1.0 / LINES_IN_A_SECOND), std::mem::take(&mut open)));
            }
        }
        at = at.max(shown.last().map_or(0.0, |(last, _)| *last));
    }
    if !open.is_empty() {
        shown.push((at, open));
    }
    Ok(draw(&head, &shown, title))
}

fn draw(head: &Head, shown: &[(f64, String)], title: &str) -> String {
    let count = u32::try_from(shown.len()).unwrap_or(u32::MAX);
    let rows = head.height.min(count);
    let width = f64::from(head.width) * WIDTH + 2.0 * MARGIN;
    let height = f64::from(rows) * HEIGHT + 2.0 * MARGIN;
    let all = shown.last().map_or(0.0, |(last, _)| *last) + LAST;
    let percent = |at: f64| 100.0 * at / all;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-size=\"14\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\">\n<title>{}</title>\n<style>",
        escaped(title)
    );
    // Whoever wants no motion sees the end.
    let above = |count: u32| HEIGHT * f64::from(count.saturating_sub(rows));
    let _ = write!(svg, "#a{{transform:translateY(-{}px)}}", above(count));
    svg += "@media (prefers-reduced-motion:no-preference){";
    let _ = write!(svg, "g{{animation:{all:.2}s step-end infinite}}#a{{animation-name:a}}");
    svg += "@keyframes a{0%{transform:none}";
    for (count, (at, _)) in (1_u32..).zip(shown).filter(|(count, _)| *count > rows) {
        let _ = write!(svg, "{:.2}%{{transform:translateY(-{}px)}}", percent(*at), above(count));
    }
    svg += "}";
    for (place, (at, _)) in shown.iter().enumerate().filter(|(_, (_, text))| !text.is_empty()) {
        let _ = write!(
            svg,
            "#l{place}{{animation-name:l{place}}}@keyframes l{place}{{0%{{opacity:0}}{:.2}%{{opacity:1}}}}",
            percent(*at)
        );
    }
    let _ = writeln!(
        svg,
        "}}</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#14161a\"/>\n<svg y=\"{MARGIN}\" \
         height=\"{:.0}\" width=\"100%\">\n<g id=\"a\">",
        f64::from(rows) * HEIGHT
    );
    let mut style = Style::default();
    for (place, (_, text)) in (0_u32..).zip(shown).filter(|(_, (_, text))| !text.is_empty()) {
        let _ = writeln!(svg, "<g id=\"l{place}\">");
        line(&mut svg, text, HEIGHT * f64::from(place), &mut style);
        svg += "</g>\n";
    }
    svg + "</g>\n</svg>\n</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(pieces: &[&str]) -> String {
        let head = r#"{"version":2,"width":20,"height":2}"#;
        [&[head], pieces].concat().join("\n")
    }

    #[test]
    fn lines_come_at_their_times_and_scroll_away() {
        let svg = drawing(
            &cast(&[r#"[0.5,"o","one\r\ntw"]"#, r#"[1.0,"o","o\r\n\u001b[31mthree\u001b[0m"]"#]),
            "x",
        )
        .unwrap();
        for words in [">one</text>", ">two</text>", "fill=\"#ff7b72\">three</text>", "#l2{animation-name:l2}"]
        {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
        // Two lines have room.
        assert!(svg.contains("#a{transform:translateY(-18px)}"), "{svg}");
        assert!(
            !svg.contains("http") || svg.matches("http").count() == 1,
            "nothing is from elsewhere: {svg}"
        );
    }

    /// What is drawn anew from a recording is what is committed: the recordings themselves cannot be compared.
    #[test]
    fn each_drawing_is_that_of_its_recording() {
        for (cast, svg) in [
            (
                include_str!("../../../docs/pictures/demo.cast"),
                include_str!("../../../docs/pictures/demo.svg"),
            ),
            (
                include_str!("../../../docs/pictures/worker.cast"),
                include_str!("../../../docs/pictures/worker.svg"),
            ),
        ] {
            let head: Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
            assert!(drawing(cast, head["title"].as_str().unwrap()).unwrap() == svg, "`cargo xtask pictures`");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        for wrong in ["", "{}", r#"{"version":1,"width":20,"height":2}"#] {
            assert!(drawing(wrong, "x").is_err(), "{wrong}");
        }
        assert!(drawing(&cast(&[r#"[0.5,"i","q"]"#]), "x").is_err());
    }
}
