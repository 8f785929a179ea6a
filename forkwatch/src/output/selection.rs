//! What of everything some outputs are told.

use std::{collections::HashSet, io};

use wildmatch::WildMatch;

use super::{Batch, Output};
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        process::{Comm, ProcessKey},
        rescued::Rescued,
        standing::Standing,
        time::BootTime,
        worker::WorkerEvent,
        written::{Unshown, WrittenLine},
    },
};

/// Which of the events and findings are told.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those whose comm fits this pattern, with `*` and `?`.
    pub comm: Option<String>,
    /// Nothing but findings.
    pub findings_only: bool,
    /// Whether the lives of servers' workers are told, too.
    pub workers: bool,
    /// How many events and findings at most.
    pub most: Option<u64>,
}

/// Tells some outputs what is selected.
pub struct Selected {
    selection: Selection,
    comm: Option<WildMatch>,
    /// Children whose fork the pattern selected, so that their outcome is told too.
    shown: HashSet<ProcessKey>,
    /// Events and findings so far.
    told: u64,
    outputs: Vec<Box<dyn Output>>,
}

impl Selected {
    /// Tells these.
    pub fn new(selection: Selection, outputs: Vec<Box<dyn Output>>) -> Self {
        let comm = selection.comm.as_deref().map(WildMatch::new);
        Self { selection, comm, shown: HashSet::new(), told: 0, outputs }
    }

    /// Whether an event is to be told, and what it changes for the events to come.
    fn selects(&mut self, event: &Event) -> bool {
        match event {
            _ if self.selection.findings_only => false,
            Event::Fork(fork) => {
                let selected = self.matches(&fork.comm);
                if selected && self.comm.is_some() {
                    self.shown.insert(fork.child);
                }
                selected
            }
            Event::Exec(exec) => self.shown.remove(&exec.process) || self.matches(&exec.comm),
            Event::Exit(exit) => self.shown.remove(&exit.process) || self.matches(&exit.comm),
            Event::Thread(thread) => self.matches(&thread.comm),
            Event::CloneFailure(failure) => self.matches(&failure.comm),
            Event::Lost(_) => false,
        }
    }

    fn selects_finding(&self, finding: &Finding) -> bool {
        !self.has_all() && (self.matches(&finding.program.comm) || self.matches(&finding.child_comm))
    }

    fn selects_worker(&self, event: &WorkerEvent) -> bool {
        self.selection.workers && self.matches(&event.comm)
    }

    fn matches(&self, comm: &Comm) -> bool {
        self.comm.as_ref().is_none_or(|pattern| pattern.matches(&comm.to_text()))
    }

    fn is_shown(&self, child: ProcessKey) -> bool {
        self.comm.is_none() || self.shown.contains(&child)
    }

    /// Whether as many have been told as were asked for.
    fn has_all(&self) -> bool {
        self.selection.most.is_some_and(|most| self.told >= most)
    }

    fn each(&mut self, tell: impl FnMut(&mut Box<dyn Output>) -> io::Result<()>) -> io::Result<()> {
        self.outputs.iter_mut().try_for_each(tell)
    }
}

impl Output for Selected {
    fn begin(&mut self) -> io::Result<()> {
        self.each(|output| output.begin())
    }

    fn wants_particulars(&self, event: &Event) -> bool {
        !self.selection.findings_only && self.outputs.iter().any(|output| output.wants_particulars(event))
    }

    fn event(&mut self, event: &Event, particulars: &Particulars) -> io::Result<()> {
        if self.has_all() || !self.selects(event) {
            return Ok(());
        }
        self.told += 1;
        self.each(|output| output.event(event, particulars))
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        if self.has_all() {
            return Ok(());
        }
        self.told += 1;
        self.each(|output| output.lost(lost))
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        if !self.selects_finding(finding) {
            return Ok(());
        }
        self.told += 1;
        self.each(|output| output.finding(finding))
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        if !self.selects_finding(finding) {
            return Ok(());
        }
        self.told += 1;
        self.each(|output| output.resolution(finding))
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        let selected = match said {
            core::Output::LivesOn(child) => self.is_shown(child.child),
            core::Output::Worker(event) if self.has_all() || !self.selects_worker(event) => false,
            core::Output::Worker(_) => {
                self.told += 1;
                true
            }
            core::Output::Shares(shared) => !self.selection.findings_only && self.is_shown(shared.child),
            _ => true,
        };
        if selected { self.each(|output| output.said(said)) } else { Ok(()) }
    }

    fn rescued(&mut self, rescued: &Rescued) -> io::Result<()> {
        self.each(|output| output.rescued(rescued))
    }

    fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        self.each(|output| output.standing(standing))
    }

    fn written(&mut self, line: &WrittenLine) -> io::Result<()> {
        if self.has_all() || !line.by.iter().any(|(_, comm)| self.matches(comm)) {
            return Ok(());
        }
        self.each(|output| output.written(line))
    }

    fn unshown(&mut self, unshown: &Unshown, since: BootTime, at: BootTime) -> io::Result<()> {
        self.each(|output| output.unshown(unshown, since, at))
    }

    fn batch(&mut self, batch: Batch) -> io::Result<()> {
        self.each(|output| output.batch(batch))
    }

    fn is_done(&self) -> bool {
        self.has_all() || self.outputs.iter().any(|output| output.is_done())
    }

    fn end(&mut self) -> io::Result<()> {
        self.each(|output| output.end())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::output::samples;

    /// Notes what it is told.
    struct Told(Rc<RefCell<Vec<String>>>);

    impl Told {
        fn note(&self, what: &str) {
            self.0.borrow_mut().push(what.to_owned());
        }
    }

    impl Output for Told {
        fn event(&mut self, event: &Event, _: &Particulars) -> io::Result<()> {
            let name = serde_json::to_value(event).unwrap();
            self.note(name.as_object().unwrap().keys().next().unwrap());
            Ok(())
        }

        fn lost(&mut self, _: &Lost) -> io::Result<()> {
            self.note("lost");
            Ok(())
        }

        fn finding(&mut self, finding: &Finding) -> io::Result<()> {
            self.note(&format!("finding {}", finding.number));
            Ok(())
        }

        fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
            self.note(&format!("resolution {}", finding.number));
            Ok(())
        }
    }

    /// What comes through of a fork by gunicorn, the end of its child and that of another, a loss, a finding about
    /// gunicorn and its resolution; and whether that is all that was asked for.
    fn through(selection: Selection) -> (Vec<String>, bool) {
        let told = Rc::default();
        let mut selected = Selected::new(selection, vec![Box::new(Told(Rc::clone(&told)))]);
        let status = crate::model::event::ExitStatus::Code(0);
        let fork = samples::fork(10, 4100, "gunicorn", 4244);
        for event in [
            Event::Fork(fork),
            Event::Exit(samples::exit(20, 4244, 10, "renamed", status)),
            Event::Exit(samples::exit(20, 4299, 10, "another", status)),
        ] {
            selected.event(&event, &Particulars::None).unwrap();
        }
        selected.lost(&samples::lost()).unwrap();
        selected.finding(&samples::finding()).unwrap();
        selected.resolution(&samples::resolved()).unwrap();
        let is_done = selected.is_done();
        drop(selected);
        (Rc::into_inner(told).unwrap().into_inner(), is_done)
    }

    #[test]
    fn everything_comes_through_where_nothing_is_selected() {
        let all = ["fork", "exit", "exit", "lost", "finding 1", "resolution 1"].map(str::to_owned);
        assert_eq!(through(Selection::default()), (all.to_vec(), false));
    }

    #[test]
    fn a_comm_selects_a_fork_with_its_outcome_and_its_findings() {
        let (told, _) = through(Selection { comm: Some("gun*".to_owned()), ..Selection::default() });
        assert_eq!(told, ["fork", "exit", "lost", "finding 1", "resolution 1"]);
        let (told, _) = through(Selection { comm: Some("x*".to_owned()), ..Selection::default() });
        assert_eq!(told, ["lost"]);
    }

    #[test]
    fn findings_alone_and_so_many() {
        let (told, done) = through(Selection { findings_only: true, most: Some(2), ..Selection::default() });
        assert_eq!((told, done), (["lost", "finding 1"].map(str::to_owned).to_vec(), true));
    }
}
