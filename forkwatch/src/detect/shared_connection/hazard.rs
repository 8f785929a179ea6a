//! `shared-connection`: two processes talk on one inherited connection.

use super::callers::Callers;
use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD},
    model::{
        connection::{Act, LibraryThread, SharedSocket, Turn},
        detector::{Aspect, DetectorState, Observable, Reach, Wanted},
        facts::ConnectionFacts,
        finding::{Certainty, Facts, Finding, HazardId, Remedy, Severity, State},
        process::{Comm, ProcessKey, Program},
        program_name::called,
        time::{BootTime, nanoseconds},
    },
    remedy::connection::{Connection, remedies},
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("shared-connection"),
    title: "Two processes talk on one connection that a fork has left to both",
    what: "A connection that is open at the fork belongs to parent and child alike, and neither knows of the other. \
           What both send arrives mixed up at the server, and an answer goes to whichever process reads first: one \
           user's rows are shown to another, protocols lose their step, TLS breaks off. It fails now and then, \
           under load, and nowhere near its cause.",
    detection: "A second after the fork the connections that child and parent both hold are looked up (TCP, and Unix \
                sockets with a name), and watched from then on. `forkwatch tail --pid`, `forkwatch run` and \
                `forkwatch tail --inherited-connections` watch them from the child's first instruction: the kernel \
                side looks through the child's descriptors at the fork. The programs for that are attached some \
                milliseconds after the first such fork, and stay attached as long as a process lives that has left \
                connections to a child. Of what the first child does in these milliseconds, only the bytes on TCP \
                connections are known. Under lockdown=confidentiality these programs are not allowed, and the watch \
                begins after a second. A finding is made when two processes of the family have both sent, or both \
                received, since both had the connection, and neither has exec'd since the fork. Children that use it \
                one after the other are reported only if the connection has ended by then: strong, or heuristic if \
                the first use is known by its bytes alone. Whoever uses such a connection is looked at in that \
                moment. The finding shows the line of the script or the calls of those that were still at it, and \
                its remedy is chosen by the libraries in these calls. As long as each has had its answer before another \
                asked, nothing is seen to have gone wrong: suspected, and a warning where no client library is known to use it, as a \
                lock may keep them in order. It is confirmed and critical \
                where one sends while another's answer is on its way, or takes that.",
    certainty: Certainty::Strong,
    certainty_reason: "The kernel saw two processes use it. The order of their calls is in the evidence. It cannot be \
                       seen whether they wait for one another: they may hold a lock meanwhile, hand a token on, take \
                       what comes from a queue, or only send, each message by one call, as to a log. A child that \
                       says one short thing and ends within a second is shared-connection-closed instead.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A connection that both hold and only one uses: a handover, or a library that reconnects in the child.",
        "A server that accepts and then forks: the parent closes its copy.",
        "Listening sockets, datagrams (syslog, statsd), socketpairs, pipes.",
        "Descriptors 0 to 2, as inetd and its heirs pass connections.",
        "A child that has exec'd.",
    ],
    remedies,
    links: &[
        "https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork",
        "https://www.psycopg.org/docs/usage.html#thread-and-process-safety",
    ],
    watches: "connections from before a fork that two processes use",
    sees: &[(Aspect::Descriptors, Wanted::Each), (Aspect::Sockets, Wanted::Helps)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[
        (Observable::SocketUse, DetectorState::Off, "the use of a connection cannot be watched"),
        (Observable::Heirs, DetectorState::Limited, "a child's first second is not seen"),
    ],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// A connection that several processes hold, and what they did with it.
pub(super) struct Case<'a> {
    /// The forked child: its tgid, and when it started.
    pub child: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub child_comm: Comm,
    /// The process that had the connection first.
    pub forker: ProcessKey,
    /// What runs there.
    pub program: &'a Program,
    /// The connection.
    pub socket: &'a SharedSocket,
    /// Client libraries that are loaded there.
    pub libraries: &'a [String],
    /// Which code used it, as far as that was seen.
    pub callers: &'a Callers,
    /// Who did what, the first turns first.
    pub turns: &'a [Turn],
    /// Whether one came between another's question and its answer.
    pub is_mixed: bool,
    /// Whether the process that had it first was seen to use it since the fork.
    pub forker_uses_it: bool,
    /// When it is judged.
    pub now: BootTime,
}

impl Case<'_> {
    /// The other end, as a sentence calls it.
    pub(super) fn peer(&self) -> String {
        let peer = &self.socket.peer;
        match self.connection().service() {
            Some(service) => format!("{service} at {peer}"),
            None => peer.to_string(),
        }
    }

    /// What is known of who uses it.
    pub(super) fn connection(&self) -> Connection<'_> {
        Connection::new(&self.socket.peer, self.callers.libraries(), self.libraries.to_vec(), self.program)
            .with_threads_left(self.callers.behind().iter().map(|thread| thread.library.as_str()))
    }

    /// Which threads of libraries that use it stayed behind, as phrases.
    fn notes(&self) -> Vec<String> {
        let connection = self.connection();
        let mut behind: Vec<(&str, Vec<String>)> = Vec::new();
        for LibraryThread { library, thread } in self.callers.behind() {
            if !connection.concerns(library) {
                continue;
            }
            let thread = format!("{} ({})", thread.comm, thread.tid);
            match behind.iter_mut().find(|(of, _)| of == library) {
                Some((_, threads)) => threads.push(thread),
                None => behind.push((library, vec![thread])),
            }
        }
        let forker = self.forker.tgid;
        let note = |(library, threads): (&str, Vec<String>)| {
            format!(
                "the threads of {library} stayed behind in {forker}: {}. Nobody in the child mends, closes or renews its \
                 connections",
                threads.join(", ")
            )
        };
        behind.into_iter().map(note).collect()
    }

    fn facts(&self) -> Facts {
        let connection = self.connection();
        Facts {
            age: Some(nanoseconds(self.now.since(self.child.start))),
            connection: Some(Box::new(ConnectionFacts {
                peer: self.socket.peer.clone(),
                service: connection.service().map(str::to_owned),
                inode: self.socket.inode,
                age_ns: nanoseconds(self.now.since(self.child.start)),
                turns: self.turns.to_vec(),
                libraries: connection.libraries(),
                callers: self.callers.told().to_vec(),
            })),
            notes: self.notes(),
            ..Facts::default()
        }
    }

    /// The finding about this connection.
    pub(super) fn finding(
        &self,
        hazard: &Hazard,
        certainty: Certainty,
        summary: String,
        remedy: Remedy,
    ) -> Finding {
        let facts = self.facts();
        let verdict =
            Verdict { state: hazard.state, certainty, severity: hazard.severity, summary, facts, remedy };
        verdict.finding(self.now, hazard.id, (self.forker, self.program), (self.child, self.child_comm))
    }
}

/// The finding about a connection on which two processes have both done this.
pub(super) fn judge(case: &Case<'_>, act: Act) -> Finding {
    let name = called(case.program);
    let did = if act == Act::Sent { "send" } else { "receive" };
    let danger = match act {
        _ if !case.is_mixed => {
            "so far each had its answer before another asked. When two ask at once, one reads the other's answer; over \
             TLS the first change of turns breaks it"
        }
        Act::Sent => "what they send arrives mixed up, unless they wait for one another",
        Act::Received | Act::ShutDown => {
            "each reads answers that are meant for the other, unless they wait for one another"
        }
    };
    // Two children of one parent may be the ones; the turns name them.
    let other = case
        .turns
        .iter()
        .rev()
        .find(|turn| turn.act == act && turn.pid != case.child.tgid)
        .map_or(case.forker.tgid, |turn| turn.pid);
    let summary = format!(
        "{name} (pid {}) opened a connection to {} before it forked, and {other} and its child {} both {did} on it: \
         {danger}",
        case.forker.tgid,
        case.peer(),
        case.child.tgid,
    );
    let summary = if other == case.forker.tgid { summary } else { summary.replace("and its child", "and") };
    let finding = case.finding(&HAZARD, HAZARD.certainty, summary, case.connection().remedy());
    if case.is_mixed {
        return finding;
    }
    // Turns that a lock keeps in order do no harm. Client libraries know of no such lock.
    let is_of_library = !case.connection().libraries().is_empty();
    let severity = if is_of_library { finding.severity } else { Severity::Warning };
    Finding { state: State::Suspected, severity, ..finding }
}

/// A child that has used a connection and holds it no more.
pub(super) struct Past {
    pub(super) process: ProcessKey,
    /// Whether it was seen to; otherwise only the bytes were counted.
    pub(super) seen: bool,
}

/// The finding about a connection that a child has used, which another child had used before it, and which was over then.
pub(super) fn in_turn(case: &Case<'_>, before: &Past) -> Finding {
    let name = called(case.program);
    let summary = format!(
        "{name} (pid {}) opened a connection to {} before it forked. Its child {} used it, then its child {}, which knows \
         nothing of what was said before; now it is over",
        case.forker.tgid,
        case.peer(),
        before.process.tgid,
        case.child.tgid,
    );
    let certainty = if before.seen { Certainty::Strong } else { Certainty::Heuristic };
    let finding = case.finding(&HAZARD, certainty, summary, case.connection().remedy());
    Finding { severity: Severity::Warning, ..finding }
}
