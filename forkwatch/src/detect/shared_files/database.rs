//! `shared-database-file`: a database in a file was opened before a fork, and a child uses or closes what it got.
//!
//! `SQLite`, LMDB, gdbm and Berkeley DB all forbid that: what they remember of locks and pages is of one process, and the locks
//! by fcntl(2) do not come along. A lock that the child has by the descriptor from before the fork can only be of the
//! child's taking, after the fork.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        inventory::DatabaseKind,
        process::{ProcessKey, Program, escape},
        program_name::{called, stem},
        shared_file::{ClosedDatabase, SharedFiles as Seen},
        time::nanoseconds,
    },
    remedy::remedy,
};

use super::{
    Case,
    offset::{SEES, WITHOUT_SIGHT},
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("shared-database-file"),
    title: "A child uses or closes a database in a file that was opened before the fork",
    what: "SQLite, LMDB, gdbm and Berkeley DB keep in memory what they know of the file and of their locks, and a fork \
           copies that. The locks themselves belong to the parent alone. If the child uses the copy, both write as if \
           they were alone. If it closes it, as a destructor or an exit handler may do, it can undo the transaction that \
           the parent is in, and delete its journal. Then the database is damaged.",
    detection: "A child that lives on without exec is looked at when its grace is over, then every few seconds, beside \
                the process that forked it and another child of that. An open file that kcmp says they share is a \
                database by how it begins. Its use is seen by a lock that the child has by that very descriptor, or \
                (gdbm, Berkeley DB) by an offset that two move. A close is seen if the child has the file open no \
                longer, the parent has, and the child has other descriptors left; before the first look, only if \
                it deleted the journal of SQLite's that the parent still has open. A use that lasts for a few \
                milliseconds may be missed. LMDB is used through a map of its file, and its locks lie in shared memory: \
                of it only a close is seen.",
    certainty: Certainty::Strong,
    certainty_reason: "A process has no lock by fcntl(2) from before its fork. But a program could lock a database's file \
                       itself, without the library. That a child has closed the database, and not only the descriptor, \
                       is a suspicion; it is strong if the parent's journal was deleted while the parent has it open.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A database that is open in the parent, and that the child neither uses nor closes.",
        "A child that opens the database anew: it has a descriptor of its own.",
        "A child that closes all descriptors, as a daemon does.",
        "A parent that has closed the database before the fork, or has ended.",
    ],
    remedies,
    links: &[
        "https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_",
        "http://www.lmdb.tech/doc/",
    ],
    watches: "databases in files that were opened before a fork and are used after it",
    sees: SEES,
    without_sight: WITHOUT_SIGHT,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// The verdict; none where the child was not seen to use or to close it.
pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    let file = &case.known.file;
    let kind = file.database?;
    let closed = case.seen.closed.as_ref().filter(|closed| closed.file == file.file);
    let (name, forker, child) = (called(&case.seen.program), case.forker.tgid, case.child.tgid);
    let path = escape(file.file.path.as_bytes());
    let begin = format!("{name} (pid {forker}) opened the {} database {path}", name_of(kind));
    let who = case.child_words();
    let mut notes = vec![format!("descriptor {} in both", file.file.fd)];
    let (state, certainty, severity, summary) = if let Some(closed) = closed {
        if !closed.journal_deleted && !closed.others_open {
            return None;
        }
        closed_notes(closed, forker, &mut notes);
        if closed.journal_deleted {
            let summary = format!(
                "{begin}, {who} {child} has closed it, and the journal of the parent's transaction is deleted: the \
                 database may be damaged"
            );
            (HAZARD.state, HAZARD.certainty, HAZARD.severity, summary)
        } else {
            let summary = format!(
                "{begin}, and {who} {child} has closed it: unless it closed only the descriptor, that interferes with \
                 the parent's transactions"
            );
            (State::Suspected, Certainty::Heuristic, Severity::Warning, summary)
        }
    } else {
        let movers = || case.known.movers().map(|user| user.process);
        let uses = case.known.lockers.iter().copied().chain(movers()).filter(|user| *user != case.forker);
        let uses: Vec<_> = uses.collect();
        // That the child's own offset moved says something only beside another's.
        let by_offset = movers().count() > 1;
        let locked = case.known.lockers.contains(&case.child);
        if !(locked || by_offset && uses.contains(&case.child)) {
            return None;
        }
        if locked {
            notes.push(format!(
                "{child} had a lock on it by that descriptor, which it can only have taken itself"
            ));
        } else {
            notes.push(format!("{child} and another process were seen to move its offset"));
        }
        let both = case.known.lockers.len() > 1 || by_offset;
        let severity = if both { HAZARD.severity } else { Severity::Warning };
        let summary = format!(
            "{begin}, and {who} {child} uses what it got of that: each works as if it were alone, and the database may \
             be damaged"
        );
        (HAZARD.state, HAZARD.certainty, severity, summary)
    };
    let facts = Facts { age: Some(case.age()), notes, ..Facts::default() };
    Some(Verdict { state, certainty, severity, summary, facts, remedy: advice(kind, &case.seen.program) })
}

fn closed_notes(closed: &ClosedDatabase, forker: u32, notes: &mut Vec<String>) {
    if closed.locked {
        notes.push(format!("{forker} has a lock on it: it is at work on it"));
    }
    if closed.journal_deleted {
        notes.push(format!("{forker} has its journal open, which somebody has deleted"));
    }
}

const fn name_of(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Sqlite => "SQLite",
        DatabaseKind::Lmdb => "LMDB",
        DatabaseKind::Gdbm => "gdbm",
        DatabaseKind::BerkeleyDb => "Berkeley DB",
    }
}

/// The verdict on a child that was not seen to have a database, and may have closed it before the first look at it.
pub(super) fn judge_unseen(child: ProcessKey, forker: ProcessKey, seen: &Seen) -> Option<Verdict> {
    let closed = seen.closed.as_ref().filter(|closed| closed.unseen && closed.journal_deleted)?;
    let (name, path) = (called(&seen.program), escape(closed.file.path.as_bytes()));
    let summary = format!(
        "{name} (pid {}) is in a transaction on the {} database {path}, whose journal another process has deleted: \
         probably a forked child closed the database that it got, such as {}, which does not have it open. The database may be \
         damaged",
        forker.tgid,
        name_of(closed.kind),
        child.tgid
    );
    let mut notes = vec![format!("descriptor {} in {}", closed.file.fd, forker.tgid)];
    closed_notes(closed, forker.tgid, &mut notes);
    let age = Some(nanoseconds(seen.at.since(child.start)));
    Some(Verdict {
        state: State::Suspected,
        certainty: Certainty::Heuristic,
        severity: HAZARD.severity,
        summary,
        facts: Facts { age, notes, ..Facts::default() },
        remedy: advice(closed.kind, &seen.program),
    })
}

/// What users of a language have to change.
struct Language {
    names: &'static [&'static str],
    whom: &'static str,
    advice: &'static str,
    link: &'static str,
}

static LANGUAGES: [Language; 4] = [
    Language {
        names: &["python", "pypy"],
        whom: "SQLite in Python",
        advice: "Connect in each worker, after the fork; close connections before it (Django: connections.close_all()). \
                 With SQLAlchemy call engine.dispose(close=False) first thing in the child. A child that must not use it \
                 ends by os._exit, so that no destructor closes it, or workers are started by spawn or forkserver.",
        link: "https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork",
    },
    Language {
        names: &["ruby"],
        whom: "SQLite in Ruby",
        advice: "Use sqlite3 2.0 or later, which discards inherited connections that can be written to, and connect in \
                 each worker. With Active Record disconnect before the fork.",
        link: "https://github.com/sparklemotion/sqlite3-ruby",
    },
    Language {
        names: &["php", "php-fpm", "php-cgi"],
        whom: "SQLite in PHP",
        advice: "Open the PDO or SQLite3 object after pcntl_fork, in each process its own, and set it to null before the \
                 fork.",
        link: "https://www.php.net/manual/en/function.pcntl-fork.php",
    },
    Language {
        names: &["perl"],
        whom: "SQLite in Perl",
        advice: "Connect after the fork, in each process for itself, and disconnect before it; or set \
                 AutoInactiveDestroy and connect anew in the child.",
        link: "https://metacpan.org/pod/DBI#AutoInactiveDestroy",
    },
];

fn general() -> Remedy {
    remedy(
        "Open the database after the fork, in each process for itself, and close it before the fork. A child neither uses \
         nor closes what it got; it ends by _exit(2), so that no destructor does.",
        "https://www.sqlite.org/howtocorrupt.html",
    )
}

fn lmdb() -> Remedy {
    remedy(
        "Open the environment after the fork, in each process for itself: one from before it cannot be used in a child. \
         A DataLoader opens it in worker_init_fn, or when it is first used.",
        "https://lmdb.readthedocs.io/en/release/#environment-class",
    )
}

/// What to change in this program.
fn advice(kind: DatabaseKind, program: &Program) -> Remedy {
    let file = program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|name| name.to_str());
    let is_it = |language: &&Language| file.is_some_and(|file| language.names.contains(&stem(file)));
    match kind {
        DatabaseKind::Sqlite => LANGUAGES
            .iter()
            .find(is_it)
            .map_or_else(general, |language| remedy(language.advice, language.link)),
        DatabaseKind::Lmdb => lmdb(),
        DatabaseKind::Gdbm | DatabaseKind::BerkeleyDb => general(),
    }
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    let known = LANGUAGES.iter().map(|language| (language.whom, remedy(language.advice, language.link)));
    known.chain([("LMDB", lmdb()), ("any program", general())]).collect()
}
