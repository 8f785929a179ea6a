//! Where what the screen shows comes from: a watch of its own, or a daemon that runs already. Both give the same documents.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use jiff::Timestamp;

use super::{
    daemon::{Asked, News},
    known::Known,
    told::Told,
    view::Shown,
};
use crate::{
    api::Kept,
    cli::daemon::servers,
    output::{Context, workers::Workers},
};

/// Where it comes from.
pub(super) enum Source {
    /// A watch of its own.
    Own(Own),
    /// A daemon that is asked over its local socket.
    Daemon(Asked),
}

/// A watch of its own.
pub(super) struct Own {
    pub(super) context: Context,
    pub(super) workers: Workers,
    pub(super) told: Rc<RefCell<Told>>,
    /// Its servers as they were shown last.
    pub(super) known: Known,
    /// What it cannot see.
    pub(super) unseen: Option<String>,
}

impl Source {
    /// What is known now, but for what a look at processes tells; nothing where a daemon has not answered yet.
    pub(super) fn shown(&mut self) -> Option<Shown> {
        match self {
            Self::Own(own) => Some(own.shown()),
            Self::Daemon(asked) => Some(shown(&asked.news()?)),
        }
    }

    /// All of a finding, as soon as it is there.
    pub(super) fn find(&mut self, id: &str) -> Option<Result<Kept, String>> {
        match self {
            Self::Own(own) => {
                Some(own.told.borrow().find(id).ok_or_else(|| "later ones have taken its place".to_owned()))
            }
            Self::Daemon(asked) => asked.find(id),
        }
    }
}

impl Own {
    fn shown(&mut self) -> Shown {
        let Self { known, workers, context, .. } = self;
        workers.look_told(|table, told| {
            if let Some(most) = known.missing(told) {
                known.take(servers::servers(table, told, most, context));
            }
        });
        let mut told = self.told.borrow_mut();
        Shown {
            servers: Arc::clone(&self.known.servers),
            findings: told.findings(),
            now: Timestamp::now(),
            forks: told.forks,
            lost: told.lost,
            undecided: told.undecided,
            unseen: self.unseen.clone(),
            ..Shown::default()
        }
    }
}

fn shown(news: &News) -> Shown {
    let health = news.health.as_ref();
    let doubts = health.map_or(0, |health| health.doubts.len());
    let mut unseen = match (&news.trouble, doubts) {
        (Some(why), _) => Some(format!("NO ANSWER: {why}")),
        (None, 0) => None,
        (None, 1) => Some("1 doubt: see `forkwatch doctor`".to_owned()),
        (None, count) => Some(format!("{count} doubts: see `forkwatch doctor`")),
    };
    if news.trouble.is_none() {
        unseen = Some(["by the daemon".to_owned()].into_iter().chain(unseen).collect::<Vec<_>>().join(", "));
    }
    Shown {
        servers: Arc::clone(&news.servers),
        findings: Arc::clone(&news.findings),
        now: Timestamp::now(),
        forks: health.map_or(0, |health| health.forks),
        lost: health.map_or(0, |health| health.lost),
        undecided: health.map_or(0, |health| health.undecided),
        unseen,
        ..Shown::default()
    }
}
