//! The servers as a watch has told of them, of which only those that have changed are asked for again.

use std::{collections::HashSet, sync::Arc};

use super::rows::master;
use crate::{
    api::{ServerDocument, Servers},
    model::worker_table::MOST_SERVERS,
};

/// The servers that are known.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// The one that changed last first. One that was forgotten because there are too many may still be there.
    pub(super) servers: Arc<Vec<Arc<ServerDocument>>>,
    /// How often something was told of servers when they were asked for; none before that.
    told: Option<u64>,
}

impl Known {
    /// So many have changed since, where something was told so often; none where nothing was. All, where that is not known.
    pub(super) fn missing(&self, told: u64) -> Option<usize> {
        match self.told {
            Some(before) if before == told => None,
            // Less was told only by another watch.
            Some(before) => Some(
                told.checked_sub(before).and_then(|more| usize::try_from(more).ok()).unwrap_or(usize::MAX),
            ),
            None => Some(usize::MAX),
        }
    }

    /// Forgets what it knows, so that all are asked for.
    pub(super) const fn forget(&mut self) {
        self.told = None;
    }

    /// Takes in those that have changed, or more.
    pub(super) fn take(&mut self, answer: Servers) {
        let is_all = self.told.is_none_or(|before| before > answer.told);
        self.told = Some(answer.told);
        let before = Arc::clone(&self.servers);
        // What is the same as before stays the very same, so that nothing is made of it anew.
        let latest = answer.servers.into_iter().map(|server| {
            let same =
                before.iter().find(|known| known.master_pid == server.master_pid && ***known == server);
            same.map_or_else(|| Arc::new(server), Arc::clone)
        });
        let mut servers: Vec<Arc<ServerDocument>> = latest.collect();
        if !is_all {
            let newer: HashSet<_> = servers.iter().map(|server| master(server)).collect();
            servers.extend(before.iter().filter(|server| !newer.contains(&master(server))).cloned());
            servers.truncate(MOST_SERVERS);
        }
        self.servers = Arc::new(servers);
    }
}
