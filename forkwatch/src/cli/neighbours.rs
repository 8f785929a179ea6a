//! The servers of this host that fork their workers, for somebody who looks for where to begin.

use std::{collections::HashMap, time::Duration};

use super::inspect::{Family, Server};
use crate::{
    engine::Asker,
    host,
    reader::{Answer, Question},
};

/// Most servers that are looked for, among so many programs that keep children, and how long each look is waited for.
const MOST: usize = 8;
const MOST_LOOKS: usize = 24;
const PATIENCE: Duration = Duration::from_secs(1);

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// What it is called, safe for a terminal.
    pub(super) name: String,
    /// Its master's pid.
    pub(super) pid: u32,
    /// How many workers it has.
    pub(super) workers: usize,
}

/// Those with most children that have not exec'd come first.
pub(super) fn neighbours(asker: &Asker) -> Vec<Neighbour> {
    let Ok(processes) = host::processes() else { return Vec::new() };
    let mut children: HashMap<u32, usize> = HashMap::new();
    for child in processes.iter().filter(|process| process.unexeced) {
        *children.entry(child.parent).or_default() += 1;
    }
    let mut masters: Vec<&host::Process> = processes
        .iter()
        .filter(|process| !process.unexeced && children.contains_key(&process.key.tgid))
        .collect();
    masters.sort_by_key(|master| std::cmp::Reverse(children.get(&master.key.tgid).copied()));
    let looks = masters.into_iter().take(MOST_LOOKS).filter_map(|master| look(asker, master));
    looks.take(MOST).collect()
}

/// A server of a known kind that has workers. Other programs keep forked children as well: a shell with its background
/// jobs is no server.
fn look(asker: &Asker, master: &host::Process) -> Option<Neighbour> {
    let Answer::Tree(tree) = asker.ask_now(Question::Tree(*master), PATIENCE)? else { return None };
    let family = Family::new(&*tree.ok()?, master.key);
    let workers = family.processes.iter().filter(|member| member.is_worker()).count();
    neighbour(family.server.as_ref(), master.key.tgid, workers)
}

fn neighbour(server: Option<&Server>, pid: u32, workers: usize) -> Option<Neighbour> {
    let server = server.filter(|server| server.known && workers > 0)?;
    Some(Neighbour { name: server.name.clone(), pid, workers })
}

/// What they are, and which command looks at the first; nothing where there are none. `program` is how forkwatch is
/// called.
pub(super) fn words(of: &[Neighbour], program: &str) -> Option<String> {
    let first = of.first()?;
    let all: Vec<String> = of
        .iter()
        .map(|Neighbour { name, pid, workers }| {
            format!("{name} (pid {pid}, {workers} worker{})", if *workers == 1 { "" } else { "s" })
        })
        .collect();
    let (count, forks) = if of.len() == 1 { ("One server", "forks") } else { ("Servers", "fork") };
    Some(format!(
        "{count} on this host that {forks}: {}. `{program} check {}` says whether its next fork would be safe, and \
         `{program} top` shows all of them.",
        all.join(", "),
        first.pid
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_no_known_server_is_left_out() {
        let server = |name: &str, known| Server {
            name: name.to_owned(),
            known,
            version: None,
            settings: Vec::new(),
            listens: Vec::new(),
        };
        let (shell, nginx) = (server("bash", false), server("nginx", true));
        assert_eq!(neighbour(Some(&shell), 7, 3), None);
        assert_eq!(neighbour(Some(&nginx), 8, 0), None, "it has no workers");
        assert_eq!(neighbour(None, 9, 3), None);
        assert_eq!(neighbour(Some(&nginx), 8, 3).map(|found| found.name).as_deref(), Some("nginx"));
    }

    #[test]
    fn servers_are_named_with_the_command_that_looks_at_them() {
        assert_eq!(words(&[], "forkwatch"), None);
        let gunicorn = Neighbour { name: "gunicorn".to_owned(), pid: 812, workers: 3 };
        let nginx = Neighbour { name: "nginx".to_owned(), pid: 813, workers: 1 };
        assert_eq!(
            words(std::slice::from_ref(&gunicorn), "forkwatch").unwrap(),
            "One server on this host that forks: gunicorn (pid 812, 3 workers). `forkwatch check 812` says whether its \
             next fork would be safe, and `forkwatch top` shows all of them."
        );
        let both = words(&[gunicorn, nginx], "fw").unwrap();
        assert!(both.starts_with("Servers on this host that fork: gunicorn (pid 812, 3 workers), nginx (pid 813, 1 worker). `fw check 812`"), "{both}");
    }
}
