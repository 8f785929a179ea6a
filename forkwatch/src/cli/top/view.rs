//! What the screen shows, and what keys change of it. Pure: what is shown comes in, and nothing is asked.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    groups::{Groups, Material},
    keys::Action,
    rows::{self, Key, Row, Sort, key},
    survey::Looked,
};
use crate::{
    api::{Brief, Kept, KeptState, ServerDocument},
    cli::findings::text::evidence,
    detect,
    model::process::ProcessKey,
};

/// Longest word that can be searched for.
const LONGEST_WORD: usize = 64;

/// Everything that can be shown.
#[derive(Clone, Default)]
pub(super) struct Shown {
    /// The servers and their workers.
    pub(super) servers: Arc<Vec<Arc<ServerDocument>>>,
    /// What was seen of servers, by master.
    pub(super) seen: HashMap<ProcessKey, Rc<Looked>>,
    /// Masters that have ended.
    pub(super) ended: HashSet<ProcessKey>,
    /// The last findings, the latest first.
    pub(super) findings: Arc<Vec<Brief>>,
    /// When that was so.
    pub(super) now: Timestamp,
    /// Forks that were told, records that were lost, and what could not be judged.
    pub(super) forks: u64,
    pub(super) lost: u64,
    pub(super) undecided: u64,
    /// What the watch says of itself, where something is missing.
    pub(super) unseen: Option<String>,
}

impl Shown {
    /// Leaves the server to which this process belongs, and what was found about its processes.
    fn narrow(&mut self, process: ProcessKey) {
        let is_of = |server: &ServerDocument, process| {
            rows::master(server) == process
                || server.workers.iter().any(|worker| rows::worker_key(worker) == process)
        };
        let servers: Vec<Arc<ServerDocument>> =
            self.servers.iter().filter(|server| is_of(server, process)).cloned().collect();
        let is_here = |of: ProcessKey| of == process || servers.iter().any(|server| is_of(server, of));
        let is_about = |brief: &&Brief| {
            let child = key(brief.pid, brief.entity_id.as_deref());
            let parent = brief.parent_pid.map(|pid| key(pid, brief.parent_entity_id.as_deref()));
            is_here(child) || parent.is_some_and(is_here)
        };
        self.findings = Arc::new(self.findings.iter().filter(is_about).cloned().collect());
        self.servers = Arc::new(servers);
    }
}

/// Which list the keys are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Focus {
    #[default]
    Servers,
    Findings,
}

/// What lies over the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Over {
    #[default]
    Nothing,
    /// More about what is selected, in a part of the screen.
    Details,
    /// A text, and from which of its lines on it is shown.
    Text { title: String, text: String, from: usize },
}

/// Where lists were drawn, for the mouse: their first row on the screen, and how many there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    pub(super) servers: (u16, u16),
    pub(super) findings: (u16, u16),
}

/// What the screen shows.
#[derive(Default)]
pub(super) struct View {
    pub(super) shown: Shown,
    pub(super) rows: Vec<Rc<Row>>,
    pub(super) groups: Groups,
    pub(super) focus: Focus,
    pub(super) over: Over,
    pub(super) sort: Sort,
    pub(super) word: String,
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) places: Places,
    /// The first lines that are on the screen, of both lists.
    pub(super) from: (usize, usize),
    folded: HashSet<ProcessKey>,
    selected: Option<Key>,
    /// The id of a finding.
    finding: Option<String>,
    /// The finding of which all is to be told, until it was.
    pub(super) wanted: Option<String>,
    only: Option<ProcessKey>,
}

impl View {
    /// Of all servers, or of the one to which this process belongs.
    pub(super) fn new(only: Option<ProcessKey>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Shows something newer, unless that is not wanted.
    pub(super) fn show(&mut self, mut shown: Shown) {
        if !self.is_paused {
            if let Some(process) = self.only {
                shown.narrow(process);
            }
            self.shown = shown;
            self.arrange(false);
        }
    }

    /// Does what is wanted; false where that is to leave.
    pub(super) fn act(&mut self, action: Action) -> bool {
        if let Over::Text { from, text, .. } = &mut self.over {
            match action {
                Action::Quit => return false,
                Action::Move(by) => {
                    *from = from.saturating_add_signed(by).min(text.lines().count().saturating_sub(1));
                }
                Action::First => *from = 0,
                _ => (self.over, self.wanted) = (Over::Nothing, None),
            }
            return true;
        }
        match action {
            Action::Quit => return false,
            Action::Move(by) => self.select(|now, _| now.saturating_add_signed(by)),
            Action::First => self.select(|_, _| 0),
            Action::Last => self.select(|_, last| last),
            Action::Click(row) => self.click(row),
            Action::Fold => self.fold(),
            Action::Switch => {
                self.focus = if self.focus == Focus::Servers { Focus::Findings } else { Focus::Servers };
            }
            Action::Details if self.focus == Focus::Findings => self.tell_finding(),
            Action::Details => {
                self.over = if self.over == Over::Details { Over::Nothing } else { Over::Details };
            }
            Action::Explain => self.explain(),
            Action::Sort => self.sort = self.sort.next(),
            Action::Search => self.is_typing = true,
            Action::Letter(letter) if self.word.len() < LONGEST_WORD => self.word.push(letter),
            Action::Letter(_) => {}
            Action::Erase => drop(self.word.pop()),
            Action::Enter => self.is_typing = false,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Help => {
                self.over = Over::Text { title: "Keys".to_owned(), text: HELP.to_owned(), from: 0 };
            }
            Action::Back => {
                if !std::mem::take(&mut self.is_typing) && self.over == Over::Details {
                    self.over = Over::Nothing;
                } else {
                    self.word.clear();
                }
            }
        }
        self.arrange(true);
        true
    }

    /// The line that is selected.
    pub(super) fn selected(&self) -> Option<(usize, &Row)> {
        Groups::find(&self.rows, self.selected?)
    }

    /// The finding that is selected.
    pub(super) fn finding(&self) -> Option<(usize, &Brief)> {
        let selected = self.finding.as_deref()?;
        self.shown.findings.iter().enumerate().find(|(_, finding)| finding.id == selected)
    }

    /// The masters whose servers are on the screen or selected, the selected one first.
    pub(super) fn masters(&self) -> Vec<ProcessKey> {
        let selected = self.selected().map(|(_, row)| row.master);
        let on_screen = self.rows.iter().skip(self.from.0).take(usize::from(self.places.servers.1.max(1)));
        let mut all: Vec<ProcessKey> = Vec::new();
        for master in selected.into_iter().chain(on_screen.map(|row| row.master)) {
            if !all.contains(&master) {
                all.push(master);
            }
        }
        all
    }

    /// What lies over the lists may be in the way of something that is gone. Lines are put in their order where one of them
    /// is new, or where somebody has asked for another order.
    fn arrange(&mut self, is_asked: bool) {
        let before = self.selected().map(|(place, _)| place);
        let Shown { servers, seen, findings, ended, .. } = &self.shown;
        let is_new = self.groups.renew(&Material { servers, seen, findings, ended }, self.sort);
        if is_new || is_asked {
            self.rows = self.groups.rows(&self.word, &self.folded);
        }
        if self.selected().is_none() {
            // What stands in the place of the one that has ended.
            let place = before.unwrap_or_default().min(self.rows.len().saturating_sub(1));
            self.selected = self.rows.get(place).map(|row| row.key);
        }
        // Whoever turns to the list begins with the newest.
        if self.focus == Focus::Servers || self.finding().is_none() {
            self.finding = self.shown.findings.first().map(|finding| finding.id.clone());
        }
    }

    /// Selects the line that follows from the present one and the last one.
    fn select(&mut self, next: impl Fn(usize, usize) -> usize) {
        if self.focus == Focus::Servers {
            let last = self.rows.len().saturating_sub(1);
            let now = self.selected().map_or(0, |(place, _)| place);
            self.selected = self.rows.get(next(now, last).min(last)).map(|row| row.key);
        } else {
            let last = self.shown.findings.len().saturating_sub(1);
            let now = self.finding().map_or(0, |(place, _)| place);
            self.finding =
                self.shown.findings.get(next(now, last).min(last)).map(|finding| finding.id.clone());
        }
    }

    fn click(&mut self, row: u16) {
        let lists = [
            (Focus::Servers, self.places.servers, self.from.0),
            (Focus::Findings, self.places.findings, self.from.1),
        ];
        for (focus, (first, count), from) in lists {
            if (first..first.saturating_add(count)).contains(&row) {
                self.focus = focus;
                self.select(|_, _| from + usize::from(row - first));
            }
        }
    }

    fn fold(&mut self) {
        let Some(master) = self.selected().map(|(_, row)| row.master) else { return };
        if !self.folded.remove(&master) {
            self.folded.insert(master);
            self.selected = Some(Key::Server(master));
        }
    }

    fn tell_finding(&mut self) {
        let Some((_, brief)) = self.finding() else { return };
        let mut text = String::new();
        crate::paragraph::add(&mut text, "", "", &brief.summary);
        let title = title(brief);
        self.wanted = Some(brief.id.clone());
        self.over = Over::Text { title, text, from: 0 };
    }

    /// Shows all of the finding that was wanted, unless somebody has gone on since.
    pub(super) fn tell(&mut self, found: &Result<Kept, String>) {
        let Over::Text { text, .. } = &mut self.over else { return };
        self.wanted = None;
        text.push('\n');
        match found {
            Ok(kept) => {
                evidence(text, kept);
                text.push_str("\nPress e in the list for what this hazard is.\n");
            }
            Err(why) => crate::paragraph::add(text, "", "", &format!("Its evidence cannot be had: {why}.")),
        }
    }

    /// Explains the hazard of the selected finding, or of the worst one about the selected process.
    fn explain(&mut self) {
        let hazard = match self.focus {
            Focus::Findings => self.finding().map(|(_, finding)| finding.hazard.clone()),
            Focus::Servers => self
                .selected()
                .and_then(|(_, row)| {
                    let about = |finding: &&Brief| rows::is_about(finding, row);
                    self.shown.findings.iter().filter(about).max_by_key(|finding| finding.severity)
                })
                .map(|finding| finding.hazard.clone()),
        };
        let Some(hazard) = hazard else { return };
        let text = match detect::find(&hazard) {
            Some(known) => detect::explain(Some(known)),
            None => "The daemon is of another version, and this one does not know that hazard.\n".to_owned(),
        };
        self.over = Over::Text { title: hazard, text, from: 0 };
    }
}

/// What stands above the text of a finding.
fn title(brief: &Brief) -> String {
    let state = match brief.state {
        KeptState::Suspected => "suspected",
        KeptState::Confirmed => "confirmed",
        KeptState::Unknown => "unknown whether it lasts",
        KeptState::Resolved => "over",
        KeptState::Unwatched => "of an earlier watch",
    };
    format!("{}: {state}, {}", brief.hazard, brief.certainty.name())
}

const HELP: &str = "\
Up, Down, j, k   the line above or below; PgUp, PgDn, Home, End too
Space, Left      fold the workers of a server in or out
Tab              from the servers to the findings, and back
Enter            more about what is selected
e                explain the hazard of a finding
s                sort by trouble, name, memory or age
/                only lines with a word; Esc shows all again
p                pause: nothing changes until p again
q, Ctrl-C        leave

PID      of a server its master, below it its workers
STATE    starting, ready (it has waited for work), not-ready, stopping,
         unknown
DOES     what its main thread does, and where in its script
AGE      how long it has lived
!        findings that are not over
OWN      memory that was copied or is new since the fork
In wider terminals also:
FOR      since when its main thread has not run
LK       locks that it carries, held by threads that it does not have
SHARED   memory that it shares
";
