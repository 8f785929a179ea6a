//! Screens of a terminal as a drawing that shows one after the other.

use std::fmt::Write as _;

/// A letter's width and a line's height, in pixels.
pub(super) const WIDTH: f64 = 8.4;
pub(super) const HEIGHT: f64 = 18.0;
pub(super) const MARGIN: f64 = 10.0;
/// Seconds that each screen is shown.
const EACH: usize = 4;

/// How letters look.
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own in ECMA-48")]
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Style {
    is_bold: bool,
    is_dim: bool,
    is_underlined: bool,
    is_reversed: bool,
    color: Option<u32>,
}

impl Style {
    /// Takes in what stands between ESC [ and m.
    fn take(&mut self, codes: &str) {
        let mut codes = codes.split(';').map(|code| code.parse().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                // One of 256, of which the first are those that have codes of their own.
                38 => self.color = codes.nth(1),
                0 => *self = Self::default(),
                1 => self.is_bold = true,
                4 => self.is_underlined = true,
                7 => self.is_reversed = true,
                2 => self.is_dim = true,
                22 => (self.is_bold, self.is_dim) = (false, false),
                24 => self.is_underlined = false,
                27 => self.is_reversed = false,
                30..=37 => self.color = Some(code - 30),
                39 => self.color = None,
                _ => {}
            }
        }
    }

    fn attributes(self) -> String {
        let color = match (self.is_reversed, self.color) {
            (true, _) => "#14161a",
            (_, Some(1)) => "#ff7b72",
            (_, Some(2)) => "#7ee787",
            (_, Some(3)) => "#e3b341",
            (_, Some(4)) => "#79c0ff",
            (_, Some(5)) => "#d2a8ff",
            (_, Some(6)) => "#76e3ea",
            (_, None) if self.is_dim => "#9198a1",
            _ => "#d6d9de",
        };
        let bold = if self.is_bold { " font-weight=\"bold\"" } else { "" };
        let line = if self.is_underlined { " text-decoration=\"underline\"" } else { "" };
        format!("fill=\"{color}\"{bold}{line}")
    }
}

/// The drawing of these screens of so many columns and lines, as `tmux capture-pane -e` writes them.
pub(super) fn drawing(screens: &[String], columns: u32, lines: u32, title: &str) -> String {
    let (width, height) =
        (f64::from(columns) * WIDTH + 2.0 * MARGIN, f64::from(lines) * HEIGHT + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-size=\"14\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\">\n<title>{}</title>\n<style>",
        escaped(title)
    );
    let (count, all) = (screens.len().max(1), screens.len().max(1) * EACH);
    let share = 100 / count;
    if count > 1 {
        let _ = write!(
            svg,
            "@keyframes s{{0%,{share}%{{visibility:visible}}{}%,100%{{visibility:hidden}}}}",
            share + 1
        );
        let _ = write!(svg, "g{{visibility:hidden;animation:s {all}s step-end infinite}}");
        for place in 0..count {
            let _ = write!(svg, "#s{place}{{animation-delay:{}s}}", place * EACH);
        }
        // Who wants no motion sees the first.
        svg += "@media (prefers-reduced-motion){g{animation:none}#s0{visibility:visible}}";
    }
    let _ = writeln!(svg, "</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#14161a\"/>");
    for (place, screen) in screens.iter().enumerate() {
        let _ = writeln!(svg, "<g id=\"s{place}\">");
        // What a line ends with is how the next begins.
        let mut style = Style::default();
        for (row, line) in (0_u32..).zip(screen.lines().take(lines as usize)) {
            self::line(&mut svg, line, f64::from(row) * HEIGHT + MARGIN, &mut style);
        }
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// Draws a line below `top`, as a terminal gets it: letters, and how they look from there on.
pub(super) fn line(svg: &mut String, line: &str, top: f64, style: &mut Style) {
    let (mut column, mut run) = (0_u32, String::new());
    let mut rest = line;
    while !rest.is_empty() {
        if let Some((codes, after)) = rest.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m')) {
            self::run(svg, &run, *style, column, top);
            column += u32::try_from(run.chars().count()).unwrap_or(0);
            run.clear();
            style.take(codes);
            rest = after;
        } else {
            let mut letters = rest.chars();
            run.extend(letters.next());
            rest = letters.as_str();
        }
    }
    self::run(svg, &run, *style, column, top);
}

fn run(svg: &mut String, text: &str, style: Style, column: u32, top: f64) {
    let shown = if style.is_reversed { text } else { text.trim_end() };
    let count = u32::try_from(shown.chars().count()).unwrap_or(0);
    if count == 0 {
        return;
    }
    let (x, width) = (f64::from(column) * WIDTH + MARGIN, f64::from(count) * WIDTH);
    if style.is_reversed {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"#d6d9de\"/>"
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" \
         {}>{}</text>",
        top + 14.0,
        style.attributes(),
        escaped(shown)
    );
}

/// A text within the drawing.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_keep_their_places_and_looks() {
        let svg = drawing(&["a\x1b[1;38;5;1m<b>\x1b[0m c  ".to_owned()], 10, 2, "x & y");
        assert!(svg.contains("<title>x &amp; y</title>"), "{svg}");
        assert!(svg.contains("x=\"10.0\" y=\"24.0\" textLength=\"8.4\""), "{svg}");
        assert!(svg.contains("fill=\"#ff7b72\" font-weight=\"bold\">&lt;b&gt;</text>"), "{svg}");
        assert!(svg.contains("> c</text>"), "{svg}");
        let svg = drawing(&["\x1b[33ma\nb".to_owned()], 10, 2, "x");
        assert_eq!(svg.matches("fill=\"#e3b341\"").count(), 2, "a colour lasts: {svg}");
    }
}
