//! The thread that listens to what workers write: it has a reader of its own look at their streams, again and again.

use std::{
    collections::BTreeSet,
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    host::{Process, clock, forked_children, look_again},
    live::Question,
    model::{
        process::{ProcessKey, escape},
        worker_table::WorkerTable,
    },
    output::{overheard::Overhearing, workers::Workers},
    reader::{Answer, Ear, Question as Asked},
    workers::hearing::{Heard, Hearing},
};

/// Between two looks. Whoever reads a pipe mostly takes longer.
const EVERY: Duration = Duration::from_millis(10);
/// Between two searches for where output goes, at most; and at least, where workers come and go.
const SEARCH: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);
/// Between two searches among all processes for who reads from pipes.
const SEARCH_ALL: Duration = Duration::from_secs(5);
/// Longest wait for a look, and for a search.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
const SEARCH_PATIENCE: Duration = Duration::from_secs(6);
/// Most pipes that are named, because what they get is read elsewhere.
const MOST_MISSED: usize = 64;

/// What the thread hears, and where it is asked for the last lines of a process.
pub(crate) struct Overhearer {
    /// What it says.
    pub(crate) heard: Receiver<Overhearing>,
    /// Takes the processes whose last lines are asked for.
    pub(crate) asks: Sender<ProcessKey>,
}

/// Starts the thread. It listens to the servers of the table, and to what these processes have forked, whatever they are; and
/// nudges the watch when it has heard something.
pub(crate) fn start(
    ear: Ear,
    workers: Workers,
    forkers: Vec<Process>,
    nudges: mpsc::Sender<Question>,
) -> io::Result<Overhearer> {
    let ((told, heard), (asks, asked)) = (channel(), channel());
    let mut listener = Listener {
        ear,
        workers,
        forkers,
        children: Vec::new(),
        nudges,
        told,
        hearing: Hearing::default(),
        searched: None,
        known: (0, 0),
        searched_all: None,
        missed: BTreeSet::new(),
    };
    thread::Builder::new().name("overhear".to_owned()).spawn(move || {
        let Err(error) = listener.listen(&asked) else { return };
        listener.tell(Overhearing::Note(format!(
            "what workers write is not read any more: {error}; all else is watched as before"
        )));
    })?;
    Ok(Overhearer { heard, asks })
}

struct Listener {
    ear: Ear,
    workers: Workers,
    /// Processes whose forked children are listened to from the first moment on: nobody has to find out what they are.
    forkers: Vec<Process>,
    /// These children, each with the place of its forker.
    children: Vec<(Process, usize)>,
    nudges: mpsc::Sender<Question>,
    told: Sender<Overhearing>,
    hearing: Hearing,
    /// When it was looked for where output goes.
    searched: Option<Instant>,
    /// How many workers there were then, and when something last changed among them.
    known: (usize, u64),
    /// When all processes were looked at for who reads from pipes.
    searched_all: Option<Instant>,
    /// Pipes of which it was said that not all can be seen.
    missed: BTreeSet<String>,
}

impl Listener {
    /// Listens until nobody is there who would hear.
    fn listen(&mut self, asked: &Receiver<ProcessKey>) -> io::Result<()> {
        loop {
            match asked.recv_timeout(EVERY) {
                Ok(process) => {
                    // It has ended: whatever it wrote is there by now, or was read by somebody else.
                    self.look(true)?;
                    let said = self.hearing.last(process, clock::now());
                    self.tell(Overhearing::Last(process, said));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.search()?;
                    self.look(false)?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.sum();
        }
    }

    /// Looks for where output goes, where that may have changed.
    fn search(&mut self) -> io::Result<()> {
        let known = self.workers.look(|table| {
            let changed = table.servers.iter().map(|server| server.changed.0).max().unwrap_or(0);
            (table.servers.iter().map(|server| server.workers.len()).sum(), changed)
        });
        let has_new_children = self.look_for_children();
        let is_same = known == self.known && !has_new_children;
        let wait = match (is_same, has_new_children) {
            (true, _) => SEARCH,
            // What they write waits no longer for somebody who has written it.
            (false, true) => Duration::ZERO,
            (false, false) => SOON,
        };
        if self.searched.is_some_and(|searched| searched.elapsed() < wait) {
            return Ok(());
        }
        (self.searched, self.known) = (Some(Instant::now()), known);
        let mut family = self.asked_for();
        // What is known of a server says more, and so comes last.
        family.extend(self.workers.look(of_servers));
        self.hearing.family(family, clock::now());
        if self.hearing.is_empty() {
            return Ok(());
        }
        let wait = if is_same { SEARCH_ALL } else { SEARCH };
        let all = self.searched_all.is_none_or(|searched| searched.elapsed() >= wait);
        if all {
            self.searched_all = Some(Instant::now());
        }
        let question = self.hearing.streams_question(all);
        let answer = self.ear.ask(&Asked::Streams(question), SEARCH_PATIENCE)?;
        let Answer::Streams(streams) = answer else { return Err(unexpected(&answer)) };
        for (name, why) in self.hearing.streams(streams, clock::now()) {
            let name = escape(name.as_bytes());
            self.tell(Overhearing::Note(format!("what workers write to {name} is not shown: {why}")));
        }
        Ok(())
    }

    /// Looks for children of those that were asked for. Whether there are others than before.
    fn look_for_children(&mut self) -> bool {
        let of = |(at, forker): (usize, &Process)| {
            forked_children(forker.key).into_iter().map(move |child| (child, at))
        };
        let children: Vec<(Process, usize)> = self.forkers.iter().enumerate().flat_map(of).collect();
        let keys = |of: &[(Process, usize)]| of.iter().map(|(child, _)| child.key).collect::<Vec<_>>();
        let has_new = keys(&children) != keys(&self.children);
        self.children = children;
        has_new
    }

    /// The processes that were asked for, and their children.
    fn asked_for(&mut self) -> Vec<Heard> {
        for forker in &mut self.forkers {
            // It may have exec'd since.
            *forker = look_again(forker.key).unwrap_or(*forker);
        }
        let heard = |process: &Process, forker: &Process, is_master| Heard {
            process: process.key,
            comm: process.comm,
            is_master,
            server: (forker.comm.to_string(), false),
        };
        let forkers = self.forkers.iter().map(|forker| heard(forker, forker, true));
        let children = self.children.iter().filter_map(|(child, at)| Some((child, self.forkers.get(*at)?)));
        forkers.chain(children.map(|(child, forker)| heard(child, forker, false))).collect()
    }

    fn look(&mut self, all: bool) -> io::Result<()> {
        let question = self.hearing.question(all);
        if question.taps.is_empty() {
            return Ok(());
        }
        let answer = self.ear.ask(&Asked::Written(question), LOOK_PATIENCE)?;
        let Answer::Written(seen) = answer else { return Err(unexpected(&answer)) };
        let lines = self.hearing.seen(seen, clock::now());
        if !lines.is_empty() {
            self.tell(Overhearing::Lines(lines));
        }
        Ok(())
    }

    /// Tells what is not shown, and once of which pipes.
    fn sum(&mut self) {
        let (unshown, pipes) = self.hearing.unshown();
        for name in pipes {
            if self.missed.len() < MOST_MISSED && !self.missed.contains(&name) {
                let shown = escape(name.as_bytes());
                self.missed.insert(name);
                self.tell(Overhearing::Note(format!(
                    "what workers write to {shown} is read there, in part, before it can be seen here"
                )));
            }
        }
        if !unshown.is_nothing() {
            self.tell(Overhearing::Unshown(unshown, clock::now()));
        }
    }

    fn tell(&self, what: Overhearing) {
        // Whoever does not hear any more wants nothing; and a watch that has many nudges to come needs no other.
        let _ = self.told.send(what);
        let _ = self.nudges.try_send(Question::Nudge);
    }
}

fn unexpected(answer: &Answer) -> io::Error {
    match answer {
        Answer::Failed(why) => io::Error::other(why.clone()),
        _ => io::Error::other("the reader has answered something else than was asked"),
    }
}

/// Masters and workers of all servers.
fn of_servers(table: &WorkerTable) -> Vec<Heard> {
    let mut family = Vec::new();
    for record in &table.servers {
        let server = (record.server.name.clone(), record.server.known);
        let comm = record.workers.first().map(|worker| worker.comm).unwrap_or_default();
        family.push(Heard { process: record.server.master, comm, is_master: true, server: server.clone() });
        family.extend(record.workers.iter().map(|worker| Heard {
            process: worker.process,
            comm: worker.comm,
            is_master: false,
            server: server.clone(),
        }));
    }
    family
}
