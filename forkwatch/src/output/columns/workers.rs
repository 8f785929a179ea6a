//! The lines of workers.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{Columns, duration::humanly, style::Tone};
use crate::model::{
    process::escape,
    worker::{Exited, WorkerChange, WorkerEvent, WorkerState},
    written::WrittenLine,
};

impl Columns {
    /// The line of something that has happened to a worker; none for what another line tells already.
    pub fn worker(&self, event: &WorkerEvent) -> Option<String> {
        let of = format!("of {}", server(event));
        let (name, tone, details) = match &event.change {
            WorkerChange::Forked { seen, state } => {
                let replaces = event.replaces.map(|pid| format!("replaces {pid}"));
                let found = if *state == WorkerState::Ready { "found ready" } else { "found" };
                let found = (!seen).then(|| found.to_owned());
                ("worker", Tone::Plain, vec![Some(of), replaces, found])
            }
            WorkerChange::Ready(ready) => {
                let by = if ready.exact { "" } else { "by " };
                let after = format!("{by}{} after its fork", humanly(ready.after));
                ("ready", Tone::Good, vec![Some(after), Some(escape(ready.source.words())), Some(of)])
            }
            WorkerChange::Stopping(stopping) => {
                let sender =
                    stopping.sender.as_ref().map(|sender| format!("by {} ({})", sender.name, sender.pid));
                ("stop", Tone::Plain, vec![Some(stopping.signal.clone()), sender, Some(of)])
            }
            WorkerChange::Exited(exited) => {
                let is_bad = exited.end.as_ref().is_some_and(|end| end.exit_code != Some(0));
                let last = exited.did(event.at).map(|words| format!("last {}", escape(words)));
                let details = ended(exited).into_iter().map(Some).chain([last, Some(of)]).collect();
                ("ended", if is_bad { Tone::Warning } else { Tone::Plain }, details)
            }
            // A finding tells of the one, and the line of the fork of the other.
            WorkerChange::NotReady { .. } | WorkerChange::Replaced { .. } => return None,
        };
        let slot = event.slot.as_ref().map(escape);
        let details: Vec<String> = details.into_iter().chain([slot]).flatten().collect();
        Some(self.line(event.at, name, tone, event.worker.tgid, &event.comm, &details))
    }

    /// What a worker wrote last that has ended unexpectedly, a line each.
    pub fn last_words(&self, event: &WorkerEvent) -> Vec<String> {
        let WorkerChange::Exited(exited) = &event.change else { return Vec::new() };
        let line = |text: &String| {
            let words = self.quoted(text, false);
            self.line(event.at, "wrote", Tone::Plain, event.worker.tgid, &event.comm, &[words])
        };
        exited.said.iter().map(line).collect()
    }

    /// The line of one that a worker has written.
    pub fn written(&self, line: &WrittenLine) -> Option<String> {
        let (process, comm) = line.by.first()?;
        let words = match line.by.as_slice() {
            [_] => self.quoted(&line.text, line.is_cut),
            several => {
                let pids: Vec<String> = several.iter().map(|(one, _)| one.tgid.to_string()).collect();
                self.quoted(&format!("(one of {}) {}", pids.join(", "), line.text), line.is_cut)
            }
        };
        Some(self.line(line.at, "writes", Tone::Plain, process.tgid, comm, &[words]))
    }

    /// What somebody has written, safe for a terminal, and no longer than a line has room for.
    fn quoted(&self, text: &str, is_cut: bool) -> String {
        let mut words = format!("| {}", escape(text));
        if is_cut {
            words.push('…');
        }
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(self.beside()));
        if words.width() <= room {
            return words;
        }
        let mut left = room.saturating_sub(1);
        let kept = words.chars().take_while(|character| {
            let needed = character.width().unwrap_or(0);
            let fits = needed <= left;
            left = left.saturating_sub(needed);
            fits
        });
        kept.collect::<String>() + "…"
    }
}

/// `gunicorn (gthread) 4100`.
fn server(event: &WorkerEvent) -> String {
    let server = &event.server;
    let class = server.class.as_ref().map_or_else(String::new, |class| format!(" ({})", escape(class)));
    format!("{}{class} {}", escape(&server.name), server.master.tgid)
}

/// `SIGKILL after 41 s`, `stuck`, `by gunicorn (4100)`; `code 0 after 41 s`, `asked by SIGTERM of gunicorn (4100)`.
fn ended(exited: &Exited) -> Vec<String> {
    let after = humanly(exited.lifetime);
    let stuck = exited.stuck.as_ref().map(|_| "stuck".to_owned());
    let Some(end) = &exited.end else {
        return [format!("gone after {after}")].into_iter().chain(stuck).collect();
    };
    let signal = end.signal.as_deref().unwrap_or("a signal");
    let sender = end.sender.as_ref().map(|sender| format!("{} ({})", sender.name, sender.pid));
    let (how, by) = match end.exit_code {
        Some(code) => (format!("code {code}"), sender.map(|sender| format!("asked by {signal} of {sender}"))),
        None => (signal.to_owned(), sender.map(|sender| format!("by {sender}"))),
    };
    [format!("{how} after {after}")].into_iter().chain(end.meaning.clone()).chain(stuck).chain(by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{time::BootTime, worker::Ready},
        output::{columns::Times, samples},
    };

    fn lines(width: Option<usize>) -> Vec<String> {
        let columns = Columns::new(Times::Since(BootTime(samples::START)), width, 32_768, false);
        samples::lives_of_workers().iter().filter_map(|event| columns.worker(event)).collect()
    }

    #[test]
    fn a_life_is_told_in_five_lines() {
        assert_eq!(
            lines(None),
            [
                "   +4.000s worker  4242 gunicorn        of gunicorn (gthread) 4100",
                "   +5.000s ready   4242 gunicorn        712 ms after its fork, awaits connections at 127.0.0.1:8000, of \
                 gunicorn (gthread) 4100",
                "  +44.000s stop    4242 gunicorn        SIGABRT, by gunicorn (4100), of gunicorn (gthread) 4100",
                "  +45.000s ended   4242 gunicorn        SIGKILL after 41 s, stuck, by gunicorn (4100), last waited in futex \
                 at get (pool.py:9), of gunicorn (gthread) 4100",
                "  +46.000s worker  4299 gunicorn        of gunicorn (gthread) 4100, replaces 4242",
            ]
        );
        assert!(lines(Some(80)).iter().all(|line| line.width() <= 80), "{:?}", lines(Some(80)));
    }

    #[test]
    fn what_a_worker_chose_itself_reaches_no_terminal() {
        let source = crate::model::worker::WorkSource::Listener("\u{1b}[2J".to_owned());
        let ready = WorkerChange::Ready(Ready { after: 1, exact: false, source });
        let mut event = samples::worker(5, 4242, ready);
        event.slot = Some("\u{9b}1m".to_owned());
        event.server.name = "\u{7}".to_owned();
        let columns = Columns::new(Times::Since(BootTime(samples::START)), None, 32_768, false);
        let line = columns.worker(&event).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
