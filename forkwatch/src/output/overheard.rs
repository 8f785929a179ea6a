//! Tells some outputs, in addition, what workers write; and of a worker that has ended unexpectedly, its last lines.
//!
//! What workers write comes from a thread that listens, and not through the watch: it may hold secrets, so that no recording
//! has it. The end of a worker waits a moment for that thread, which has to look once more.

use std::{
    collections::VecDeque,
    io,
    sync::mpsc::{Receiver, Sender, TryRecvError},
    time::{Duration, Instant},
};

use super::{Batch, Output};
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        process::ProcessKey,
        rescued::Rescued,
        standing::Standing,
        time::BootTime,
        worker::{WorkerChange, WorkerEvent},
        written::{Unshown, WrittenLine},
    },
};

/// How long an end waits for its last lines.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most that wait. Where there are more, the first is told as it is.
const MOST_WAITING: usize = 256;
/// Between two words about what is not shown.
const SUM: Duration = Duration::from_secs(10);

/// What the thread that listens says.
#[derive(Debug)]
pub enum Overhearing {
    /// Lines that were written.
    Lines(Vec<WrittenLine>),
    /// The last lines of a process that was asked about.
    Last(ProcessKey, Vec<String>),
    /// Something was written that nobody is shown.
    Unshown(Unshown, BootTime),
    /// Something about the listening itself, for whoever reads the messages.
    Note(String),
}

/// Tells these outputs.
pub struct Overheard {
    outputs: Vec<Box<dyn Output>>,
    heard: Receiver<Overhearing>,
    /// Where the last lines of a process are asked for.
    asks: Sender<ProcessKey>,
    waiting: VecDeque<Waiting>,
    unshown: Pending,
}

/// What is not shown: told soon after the first, then now and then, and at the end.
struct Pending {
    /// All since the watch began.
    all: Unshown,
    /// What was not told yet.
    untold: Unshown,
    /// When the first and the last of that was noticed.
    times: Option<(BootTime, BootTime)>,
    told: Option<Instant>,
}

/// Something that has happened to a worker, and is told behind an end that waits, or is that end.
struct Waiting {
    event: Box<WorkerEvent>,
    /// None where it does not wait itself.
    until: Option<Instant>,
}

impl Overheard {
    /// Tells these what is heard there.
    pub fn new(
        outputs: Vec<Box<dyn Output>>,
        heard: Receiver<Overhearing>,
        asks: Sender<ProcessKey>,
    ) -> Self {
        let (all, untold) = (Unshown::default(), Unshown::default());
        let unshown = Pending { all, untold, times: None, told: None };
        Self { outputs, heard, asks, waiting: VecDeque::new(), unshown }
    }

    fn each(&mut self, tell: impl FnMut(&mut Box<dyn Output>) -> io::Result<()>) -> io::Result<()> {
        self.outputs.iter_mut().try_for_each(tell)
    }

    /// Whether the end of this worker waits for its last lines.
    fn waits(&self, event: &WorkerEvent) -> bool {
        matches!(&event.change, WorkerChange::Exited(exited) if exited.is_unexpected())
            && self.asks.send(event.worker).is_ok()
    }

    fn worker(&mut self, event: &WorkerEvent) -> io::Result<()> {
        let until = self.waits(event).then(|| Instant::now() + PATIENCE);
        if until.is_none() && self.waiting.is_empty() {
            return self.each(|output| output.said(&core::Output::Worker(Box::new(event.clone()))));
        }
        self.waiting.push_back(Waiting { event: Box::new(event.clone()), until });
        if self.waiting.len() > MOST_WAITING
            && let Some(first) = self.waiting.front_mut()
        {
            first.until = None;
        }
        self.tell_waiting(Instant::now())
    }

    fn take(&mut self) -> io::Result<()> {
        loop {
            match self.heard.try_recv() {
                Ok(Overhearing::Lines(lines)) => {
                    lines.iter().try_for_each(|line| self.each(|output| output.written(line)))?;
                }
                Ok(Overhearing::Last(process, said)) => self.last(process, said),
                Ok(Overhearing::Unshown(more, at)) => {
                    let first = self.unshown.times.map_or(at, |(first, _)| first);
                    self.unshown.times = Some((first, at));
                    self.unshown.all += more;
                    self.unshown.untold += more;
                }
                Ok(Overhearing::Note(note)) => eprintln!("forkwatch: {note}"),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.waiting.iter_mut().for_each(|waiting| waiting.until = None);
                    break;
                }
            }
        }
        self.tell_waiting(Instant::now())
    }

    /// Tells the outputs what is not shown. Whether there was anything.
    fn tell_unshown(&mut self) -> io::Result<bool> {
        let Some((since, at)) = self.unshown.times.take() else { return Ok(false) };
        let unshown = std::mem::take(&mut self.unshown.untold);
        self.unshown.told = Some(Instant::now());
        self.each(|output| output.unshown(&unshown, since, at))?;
        Ok(true)
    }

    fn last(&mut self, process: ProcessKey, said: Vec<String>) {
        let waits = |one: &&mut Waiting| one.event.worker == process && one.until.is_some();
        let Some(waiting) = self.waiting.iter_mut().find(waits) else { return };
        waiting.until = None;
        if let WorkerChange::Exited(exited) = &mut waiting.event.change {
            exited.said = said;
        }
    }

    fn tell_waiting(&mut self, now: Instant) -> io::Result<()> {
        while self.waiting.front().is_some_and(|first| first.until.is_none_or(|until| until <= now))
            && let Some(Waiting { event, .. }) = self.waiting.pop_front()
        {
            let said = core::Output::Worker(event);
            self.each(|output| output.said(&said))?;
        }
        Ok(())
    }
}

impl Output for Overheard {
    fn begin(&mut self) -> io::Result<()> {
        self.each(|output| output.begin())
    }

    fn wants_particulars(&self, event: &Event) -> bool {
        self.outputs.iter().any(|output| output.wants_particulars(event))
    }

    fn event(&mut self, event: &Event, particulars: &Particulars) -> io::Result<()> {
        self.each(|output| output.event(event, particulars))
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        self.each(|output| output.lost(lost))
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.each(|output| output.finding(finding))
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.each(|output| output.resolution(finding))
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        match said {
            core::Output::Worker(event) => self.worker(event),
            said => self.each(|output| output.said(said)),
        }
    }

    fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        self.each(|output| output.standing(standing))
    }

    fn rescued(&mut self, rescued: &Rescued) -> io::Result<()> {
        self.each(|output| output.rescued(rescued))
    }

    fn batch(&mut self, batch: Batch) -> io::Result<()> {
        self.take()?;
        // So that nobody takes the lines for all there are.
        if self.unshown.told.is_none_or(|told| told.elapsed() >= SUM) && self.tell_unshown()? {
            eprintln!("forkwatch: not shown so far: {}", self.unshown.all.words().join(", "));
        }
        self.each(|output| output.batch(batch))
    }

    fn is_done(&self) -> bool {
        self.outputs.iter().any(|output| output.is_done())
    }

    fn end(&mut self) -> io::Result<()> {
        self.take()?;
        self.waiting.iter_mut().for_each(|waiting| waiting.until = None);
        self.tell_waiting(Instant::now())?;
        self.tell_unshown()?;
        self.each(|output| output.end())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, sync::mpsc::channel};

    use super::*;
    use crate::{model::process::Comm, output::samples};

    #[derive(Clone, Default)]
    struct Told(Rc<RefCell<Vec<String>>>);

    impl Output for Told {
        fn event(&mut self, _: &Event, _: &Particulars) -> io::Result<()> {
            Ok(())
        }

        fn lost(&mut self, _: &Lost) -> io::Result<()> {
            Ok(())
        }

        fn finding(&mut self, _: &Finding) -> io::Result<()> {
            Ok(())
        }

        fn resolution(&mut self, _: &Finding) -> io::Result<()> {
            Ok(())
        }

        fn said(&mut self, said: &core::Output) -> io::Result<()> {
            if let core::Output::Worker(event) = said {
                let said = match &event.change {
                    WorkerChange::Exited(exited) => exited.said.join("/"),
                    _ => String::new(),
                };
                self.0.borrow_mut().push(format!("{} {said}", event.change.name()));
            }
            Ok(())
        }

        fn written(&mut self, line: &WrittenLine) -> io::Result<()> {
            self.0.borrow_mut().push(line.text.clone());
            Ok(())
        }

        fn unshown(&mut self, unshown: &Unshown, _: BootTime, _: BootTime) -> io::Result<()> {
            self.0.borrow_mut().push(format!("unshown {}", unshown.lines));
            Ok(())
        }
    }

    #[test]
    fn an_end_waits_for_its_last_lines_and_what_follows_of_workers_waits_behind_it() {
        let told = Told::default();
        let ((send, heard), (asks, asked)) = (channel(), channel());
        let mut overheard = Overheard::new(vec![Box::new(told.clone())], heard, asks);
        let lives = samples::lives_of_workers();
        for event in &lives {
            overheard.said(&core::Output::Worker(Box::new(event.clone()))).unwrap();
        }
        assert_eq!(told.0.borrow().len(), 3, "the end and what follows wait");
        let worker = asked.try_recv().unwrap();
        let line = WrittenLine {
            at: lives[3].at,
            server: ("gunicorn".to_owned(), true),
            by: vec![(worker, Comm::from("gunicorn"))],
            descriptor: Some(2),
            text: "Traceback".to_owned(),
            is_cut: false,
        };
        send.send(Overhearing::Lines(vec![line])).unwrap();
        send.send(Overhearing::Last(worker, vec!["Traceback".to_owned()])).unwrap();
        overheard.batch(Batch::default()).unwrap();
        let all = told.0.borrow();
        assert_eq!(all[3..5], ["Traceback", "worker_exited Traceback"]);
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn what_is_not_shown_is_told_soon_and_all_the_rest_at_the_end() {
        let told = Told::default();
        let ((send, heard), (asks, _asked)) = (channel(), channel());
        let mut overheard = Overheard::new(vec![Box::new(told.clone())], heard, asks);
        let more = |lines| Overhearing::Unshown(Unshown { lines, ..Unshown::default() }, BootTime(7));
        overheard.batch(Batch::default()).unwrap();
        assert!(told.0.borrow().is_empty());
        send.send(more(216)).unwrap();
        overheard.batch(Batch::default()).unwrap();
        assert_eq!(*told.0.borrow(), ["unshown 216"]);
        for lines in [4, 100_000, 50_000] {
            send.send(more(lines)).unwrap();
            overheard.batch(Batch::default()).unwrap();
        }
        assert_eq!(told.0.borrow().len(), 1, "not again at once");
        send.send(more(1)).unwrap();
        overheard.end().unwrap();
        assert_eq!(*told.0.borrow(), ["unshown 216", "unshown 150005"]);
    }

    #[test]
    fn where_nobody_listens_any_more_nothing_waits() {
        let told = Told::default();
        let ((send, heard), (asks, asked)) = (channel::<Overhearing>(), channel());
        let mut overheard = Overheard::new(vec![Box::new(told.clone())], heard, asks);
        let lives = samples::lives_of_workers();
        overheard.said(&core::Output::Worker(Box::new(lives[3].clone()))).unwrap();
        assert!(told.0.borrow().is_empty());
        drop(send);
        overheard.batch(Batch::default()).unwrap();
        assert_eq!(*told.0.borrow(), ["worker_exited "]);
        drop(asked);
        overheard.said(&core::Output::Worker(Box::new(lives[3].clone()))).unwrap();
        assert_eq!(told.0.borrow().len(), 2);
    }
}
