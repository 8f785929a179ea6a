//! The lines of all servers. Those of a server are made again only where something of it is new: thousands of workers of
//! which nothing is new cost nothing.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use super::{
    rows::{Key, Row, Sort, Troubles, master, of_server},
    survey::Looked,
};
use crate::{
    api::{Brief, ServerDocument},
    model::process::ProcessKey,
};

/// The servers in the order of the documents, with their lines.
#[derive(Default)]
pub(super) struct Groups {
    all: Vec<Rc<Group>>,
    findings: Arc<Vec<Brief>>,
    sort: Sort,
}

struct Group {
    of: Arc<ServerDocument>,
    seen: Option<Rc<Looked>>,
    has_ended: bool,
    server: Rc<Row>,
    workers: Vec<Rc<Row>>,
}

impl Group {
    fn new(
        of: &Arc<ServerDocument>,
        seen: Option<&Rc<Looked>>,
        has_ended: bool,
        troubles: &Troubles<'_>,
        sort: Sort,
    ) -> Self {
        let (server, workers) = of_server(of, seen.map(AsRef::as_ref), has_ended, troubles);
        let mut workers: Vec<Rc<Row>> = workers.into_iter().map(Rc::new).collect();
        workers.sort_by(|one, other| sort.compare(one, other));
        Self { of: Arc::clone(of), seen: seen.cloned(), has_ended, server: Rc::new(server), workers }
    }

    fn is_of(&self, of: &Arc<ServerDocument>, seen: Option<&Rc<Looked>>, has_ended: bool) -> bool {
        let same_seen = match (&self.seen, seen) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_seen && Arc::ptr_eq(&self.of, of) && self.has_ended == has_ended
    }
}

/// What lines are made of.
pub(super) struct Material<'a> {
    pub(super) servers: &'a [Arc<ServerDocument>],
    /// What was seen of servers, by master.
    pub(super) seen: &'a HashMap<ProcessKey, Rc<Looked>>,
    pub(super) findings: &'a Arc<Vec<Brief>>,
    /// Masters that have ended.
    pub(super) ended: &'a HashSet<ProcessKey>,
}

impl Groups {
    /// Takes in what is shown now; false where every line stays as it was.
    pub(super) fn renew(&mut self, of: &Material<'_>, sort: Sort) -> bool {
        let is_as_before =
            sort == self.sort && (Arc::ptr_eq(&self.findings, of.findings) || self.findings == *of.findings);
        (self.sort, self.findings) = (sort, Arc::clone(of.findings));
        let kept = if is_as_before { self.all.as_slice() } else { &[] };
        let kept: HashMap<ProcessKey, Rc<Group>> =
            kept.iter().map(|group| (group.server.master, Rc::clone(group))).collect();
        let troubles = LazyCell::new(|| Troubles::new(of.findings));
        let group = |server: &Arc<ServerDocument>| {
            let master = master(server);
            let (seen, has_ended) = (of.seen.get(&master), of.ended.contains(&master));
            if let Some(known) = kept.get(&master).filter(|group| group.is_of(server, seen, has_ended)) {
                return Rc::clone(known);
            }
            Rc::new(Group::new(server, seen, has_ended, &troubles, sort))
        };
        let all: Vec<Rc<Group>> = of.servers.iter().map(group).collect();
        let is_same = all.len() == self.all.len()
            && all.iter().zip(&self.all).all(|(one, other)| Rc::ptr_eq(one, other));
        self.all = all;
        !is_same
    }

    /// The lines in their order; of those with a word, where one is given.
    pub(super) fn rows(&self, word: &str, folded: &HashSet<ProcessKey>) -> Vec<Rc<Row>> {
        let word = word.to_lowercase();
        let mut groups: Vec<&Rc<Group>> = self.all.iter().collect();
        groups.sort_by(|one, other| self.sort.compare(&one.server, &other.server));
        let mut all = Vec::new();
        for group in groups {
            let whole = word.is_empty() || group.server.has(&word);
            let mut workers = group.workers.iter().filter(|row| whole || row.has(&word)).peekable();
            if !whole && workers.peek().is_none() {
                continue;
            }
            if folded.contains(&group.server.master) {
                all.push(Rc::new(Row { folded: true, ..Row::clone(&group.server) }));
            } else {
                all.push(Rc::clone(&group.server));
                all.extend(workers.cloned());
            }
        }
        all
    }

    /// The line of a process, as long as it is not left out or folded away.
    pub(super) fn find(rows: &[Rc<Row>], key: Key) -> Option<(usize, &Row)> {
        rows.iter().map(AsRef::as_ref).enumerate().find(|(_, row)| row.key == key)
    }
}
