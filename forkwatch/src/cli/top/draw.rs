//! Draws the screen, from 60 columns on.

use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Clear, Paragraph},
};
use unicode_width::UnicodeWidthChar as _;

use super::{
    rows::{Key, Row, between, is_about, master, member, since},
    view::{Focus, Over, View},
};
use crate::{
    api::{Brief, KeptState},
    cli::inspect::{mebibytes, process},
    model::{finding::Severity, lasted::lasted},
};

/// Lines of findings that are shown at least, if the screen has room.
const FINDINGS: u16 = 7;
/// Columns that the widest text over the lists takes.
const TEXT: u16 = 84;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether colours are used. Nothing is told by colour alone.
    pub(super) color: bool,
}

impl Look {
    fn severity(self, severity: Option<Severity>) -> Style {
        let style = Style::new();
        match severity {
            Some(Severity::Critical) => self.tone(style.add_modifier(Modifier::BOLD), Color::Red),
            Some(Severity::Warning) => self.tone(style, Color::Yellow),
            _ => style,
        }
    }

    const fn tone(self, style: Style, color: Color) -> Style {
        if self.color { style.fg(color) } else { style }
    }
}

/// Draws all.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, look: Look) {
    let area = frame.area();
    let findings = FINDINGS.min(area.height / 3);
    let details = if view.over == Over::Details { area.height.saturating_sub(findings) / 2 } else { 0 };
    let [head, table, more, found, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(details),
        Constraint::Length(findings),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Line::from(self::head(view, area.width)), head);
    servers(frame, table, view, look);
    if details > 0 {
        self::details(frame, more, view);
    }
    self::findings(frame, found, view, look);
    frame.render_widget(Line::from(self::foot(view, area.width)), foot);
    if let Over::Text { title, text, from } = &view.over {
        over(frame, area, title, text, *from);
    }
}

/// What is watched, and whether it can be trusted.
fn head(view: &View, width: u16) -> String {
    let shown = &view.shown;
    let workers: usize = shown.servers.iter().map(|server| server.workers.len()).sum();
    let open = |severity: Option<Severity>| {
        shown
            .findings
            .iter()
            .filter(|finding| finding.state.is_open())
            .filter(|finding| severity.is_none_or(|severity| finding.severity == severity))
            .count()
    };
    let mut parts = vec![
        format!("forkwatch: {}", number(shown.servers.len(), "server")),
        number(workers, "worker"),
        format!("{} ({} critical)", number(open(None), "finding"), open(Some(Severity::Critical))),
        number(usize::try_from(shown.forks).unwrap_or(usize::MAX), "fork"),
    ];
    if shown.lost > 0 {
        parts.push(format!("{} records lost", shown.lost));
    }
    if shown.undecided > 0 {
        parts.push(format!("{} not judged", shown.undecided));
    }
    if view.is_paused {
        parts.push("PAUSED".to_owned());
    }
    parts.extend(shown.unseen.clone());
    cut(&parts.join(", "), usize::from(width))
}

fn number(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn foot(view: &View, width: u16) -> String {
    if view.is_typing {
        return cut(&format!("/{}_   (Enter: keep, Esc: all)", view.word), usize::from(width));
    }
    let word = if view.word.is_empty() { String::new() } else { format!("  only \"{}\"", view.word) };
    let text = format!(
        "q quit  ? help  Enter more  Tab list  Space fold  / search  s sort ({})  p pause  e explain{word}",
        view.sort.name()
    );
    cut(&text, usize::from(width))
}

/// Columns of the table, by their width; 0 where there is no room for one.
struct Columns {
    name: usize,
    state: usize,
    does: usize,
    since: usize,
    memory: usize,
    shared: usize,
    locks: usize,
}

const PID: usize = 9;
const AGE: usize = 8;
const COUNT: usize = 4;

impl Columns {
    fn new(width: u16) -> Self {
        let width = usize::from(width);
        let name = if width >= 110 { 30 } else { 18 };
        let state = 10;
        let memory = if width >= 76 { 9 } else { 0 };
        let locks = if width >= 90 { 4 } else { 0 };
        let since = if width >= 100 { 9 } else { 0 };
        let shared = if width >= 120 { 10 } else { 0 };
        let taken = PID + name + state + AGE + since + memory + shared + locks + COUNT;
        Self { name, state, does: width.saturating_sub(taken), since, memory, shared, locks }
    }

    fn line(&self, cells: &Cells<'_>) -> String {
        let mut line = String::new();
        // A server has no state: its name has more room.
        let (name, state) =
            if cells.state.is_empty() { (self.name + self.state, 0) } else { (self.name, self.state) };
        for (text, width) in [
            (cells.pid, PID),
            (cells.name, name),
            (cells.state, state),
            (cells.age, AGE),
            (cells.count, COUNT),
            (cells.memory, self.memory),
            (cells.shared, self.shared),
            (cells.locks, self.locks),
            (cells.since, self.since),
            (cells.does, self.does),
        ] {
            if width > 0 {
                line += &padded(text, width);
            }
        }
        line
    }
}

/// What stands in a line.
struct Cells<'a> {
    pid: &'a str,
    name: &'a str,
    state: &'a str,
    age: &'a str,
    count: &'a str,
    memory: &'a str,
    shared: &'a str,
    locks: &'a str,
    since: &'a str,
    does: &'a str,
}

const HEADS: Cells<'static> = Cells {
    pid: "PID",
    name: "SERVER, WORKER",
    state: "STATE",
    age: "AGE",
    count: "!",
    memory: "OWN",
    shared: "SHARED",
    locks: "LK",
    since: "FOR",
    does: "DOES",
};

fn servers(frame: &mut Frame<'_>, area: Rect, view: &mut View, look: Look) {
    let columns = Columns::new(area.width);
    let room = area.height.saturating_sub(1);
    view.places.servers = (area.y + 1, room);
    let selected = view.selected().map(|(place, _)| place);
    view.from.0 = scrolled(view.from.0, selected, room, view.rows.len());
    let bold = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let mut lines = vec![Line::styled(columns.line(&HEADS), bold)];
    for (place, row) in view.rows.iter().enumerate().skip(view.from.0).take(usize::from(room)) {
        let mut style = look.severity(row.worst);
        if Some(place) == selected {
            style = style.add_modifier(if view.focus == Focus::Servers {
                Modifier::REVERSED
            } else {
                Modifier::BOLD
            });
        }
        lines.push(Line::styled(line(row, view.shown.now, &columns), style));
    }
    if view.rows.is_empty() {
        let why = if view.word.is_empty() {
            "No server keeps workers here. One shows up when it forks, or is found within 10 s."
        } else {
            "No line has this word."
        };
        lines.push(Line::raw(why));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn line(row: &Row, now: Timestamp, columns: &Columns) -> String {
    let pid = row.process().tgid;
    let (pid, name) = match row.key {
        Key::Server(_) => (format!("{}{pid}", if row.folded { '+' } else { '-' }), row.name.clone()),
        Key::Worker(_) => (format!("  {pid}"), format!(" {}", row.name)),
    };
    let memory = |bytes: Option<u64>| bytes.map_or_else(String::new, mebibytes);
    columns.line(&Cells {
        pid: &pid,
        name: &name,
        state: &row.state,
        age: &lasted(since(now, &row.start)),
        count: &if row.findings > 0 { format!("{}!", row.findings) } else { String::new() },
        memory: &memory(row.memory.map(|(_, own)| own)),
        shared: &memory(row.memory.map(|(shared, _)| shared)),
        locks: &if row.locks > 0 { row.locks.to_string() } else { String::new() },
        since: &row.since.map_or_else(String::new, |since| lasted(between(since, now))),
        does: &row.does,
    })
}

/// What else is known of the selected process.
fn details(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let Some((_, row)) = view.selected() else { return };
    let pid = row.process().tgid;
    let looked = view.shown.seen.get(&row.master);
    let mut text = String::new();
    let is_own = |brief: &&Brief| brief.parent_pid != Some(pid) && is_about(brief, row);
    for brief in view.shown.findings.iter().filter(is_own) {
        crate::paragraph::add(&mut text, "! ", "  ", &brief.summary);
    }
    match looked.and_then(|looked| Some((looked.at, member(&looked.family, pid)?))) {
        // It has not run since, or it would have been looked at again.
        Some((at, member)) => text += &process(&member.later(between(at, view.shown.now))),
        None => crate::paragraph::add(&mut text, "", "", "it has not been looked at yet, or cannot be"),
    }
    let server = view.shown.servers.iter().find(|server| master(server) == row.master);
    for end in server.iter().flat_map(|server| server.ends.iter().rev()) {
        let how = end.words.as_deref().unwrap_or("was found gone");
        let ago = lasted(since(view.shown.now, &end.at));
        let after = lasted(end.lifetime_ns);
        let stuck = end.stuck.as_ref().map_or_else(String::new, |stuck| format!(": {stuck}"));
        let told = format!("worker {} {ago} ago {how}, after {after}{stuck}", end.pid);
        crate::paragraph::add(&mut text, "  ended     ", "            ", &told);
    }
    let block = Block::new().borders(Borders::TOP).title(format!(" process {pid} "));
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn findings(frame: &mut Frame<'_>, area: Rect, view: &mut View, look: Look) {
    let block = Block::new().borders(Borders::TOP).title(" findings, the latest first ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    view.places.findings = (inner.y, inner.height);
    let selected = view.finding().map(|(place, _)| place);
    view.from.1 = scrolled(view.from.1, selected, inner.height, view.shown.findings.len());
    let mut lines = Vec::new();
    let all = view.shown.findings.iter().enumerate();
    for (place, finding) in all.skip(view.from.1).take(usize::from(inner.height)) {
        let is_over = !finding.state.is_open();
        let mut style = look.severity(Some(finding.severity).filter(|_| !is_over));
        if Some(place) == selected && view.focus == Focus::Findings {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let text = cut(&told(finding), usize::from(inner.width));
        lines.push(Line::from(Span::styled(padded(&text, usize::from(inner.width)), style)));
    }
    if view.shown.findings.is_empty() {
        lines.push(Line::raw("Nothing was found."));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn told(brief: &Brief) -> String {
    let time = brief.first_seen.parse::<Timestamp>();
    let time = time.map_or_else(
        |_| brief.first_seen.clone(),
        |time| time.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string(),
    );
    let state = match brief.state {
        KeptState::Resolved => "over: ",
        KeptState::Unwatched => "of an earlier watch: ",
        _ => "",
    };
    let severity = brief.severity.name();
    format!("{time} {severity:<8} {} {state}{}", brief.hazard, brief.summary)
}

/// A text over everything else.
fn over(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str, from: usize) {
    let width = TEXT.min(area.width);
    let lines: Vec<&str> = text.lines().collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let below = lines.len().saturating_sub(from + usize::from(height.saturating_sub(2)));
    let more = if below > 0 { format!(" {below} more lines below ") } else { " any key: back ".to_owned() };
    let block = Block::new().borders(Borders::ALL).title(format!(" {title} ")).title_bottom(more);
    let lines: Vec<Line<'_>> = lines.into_iter().skip(from).map(Line::raw).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines).wrap(ratatui::widgets::Wrap { trim: false }).block(block),
        place,
    );
}

/// The first line on the screen, so that the selected one is on it and no room is left.
fn scrolled(from: usize, selected: Option<usize>, room: u16, count: usize) -> usize {
    let room = usize::from(room).max(1);
    let from = from.min(count.saturating_sub(room));
    match selected {
        Some(selected) if selected < from => selected,
        Some(selected) if selected >= from + room => selected + 1 - room,
        _ => from,
    }
}

/// As much of a text as so many columns hold; what is left out is marked.
fn cut(text: &str, columns: usize) -> String {
    let widths = text.chars().map(|letter| letter.width().unwrap_or(0));
    if widths.sum::<usize>() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |letter: &char| {
        let width = letter.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut out: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        out.push('~');
    }
    out
}

/// The same in exactly so many columns, with one left free at the end.
fn padded(text: &str, columns: usize) -> String {
    let text = cut(text, columns.saturating_sub(1));
    let width: usize = text.chars().map(|letter| letter.width().unwrap_or(0)).sum();
    text + &" ".repeat(columns.saturating_sub(width))
}
