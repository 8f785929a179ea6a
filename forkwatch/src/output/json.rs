//! Events and findings as JSON: one document of the schema `forkwatch.event/1` a line.

use self::document::{
    Action, Boot, Category, Cgroup, Container, Document, ErrorFields, EventFields, Evidence,
    FindingResolution, FindingState, Forkwatch, Host, Kind, NewThread, Outcome, Process, Service, Thread,
    Type, User,
};
use super::{Context, identity::marks};
use crate::model::{
    event::{self, Event, ExitStatus, Lost},
    exit_code::meaning,
    finding::{Finding, Repeat, State},
    limit::Limit,
    particulars::Particulars,
    process::{Comm, ProcessKey, Program},
    provenance::Executable,
    rescued::Rescued,
    signals::signal_name,
    standing::Standing,
    thread::{Occupation, SeenThread, occupation},
    time::BootTime,
};

pub mod document;
mod lines;
mod own;
mod own_worker;
mod read;
mod schema;
mod text;
mod thread;
mod workers;

pub use lines::JsonLines;
pub use read::read_finding;
pub use schema::{schema, schema_of};
pub use workers::{unshown, worker, written};

/// The document of an event, and of what was found out beside it; none for what is evidence and no event of its own.
pub fn event(context: &Context, sequence: u64, event: &Event, particulars: &Particulars) -> Document {
    let build = |action, kind| Draft::new(context, sequence, event.at(), action, kind);
    match event {
        Event::Fork(fork) => build(Action::Fork, Type::Start).fork(fork, particulars.thread_names()),
        Event::Exec(exec) => build(Action::Exec, Type::Change).exec(exec),
        Event::Exit(exit) => build(Action::Exit, Type::End).exit(exit),
        Event::Thread(thread) => build(Action::Thread, Type::Start).thread(thread),
        Event::CloneFailure(failure) => {
            build(Action::CloneFailure, Type::Start).clone_failure(failure, particulars.limit())
        }
        Event::Lost(seen) => lost(context, sequence, seen),
    }
}

/// The document of a loss.
pub fn lost(context: &Context, sequence: u64, lost: &Lost) -> Document {
    Draft::new(context, sequence, lost.at, Action::EventsLost, Type::Info).lost(lost)
}

/// The document of a finding.
pub fn finding(context: &Context, sequence: u64, finding: &Finding) -> Document {
    Draft::new(context, sequence, finding.at, Action::Finding, Type::Info).finding(finding)
}

/// The document of a lock that was released in a child.
pub fn rescued(context: &Context, sequence: u64, rescued: &Rescued) -> Document {
    let report = &rescued.report;
    let mut draft = Draft::new(context, sequence, rescued.at, Action::Rescued, Type::Change);
    let key = ProcessKey { tgid: report.pid, start: BootTime(report.start_ns) };
    draft.document.process = Some(Process {
        name: Some(report.name.clone()),
        user: report.uid.and_then(user),
        ..draft.process(key)
    });
    draft.document.service = report.unit.clone().map(|name| Service { name });
    draft.document.event.outcome = (!report.released).then_some(Outcome::Failure);
    draft.document.forkwatch.rescued = Some(document::Rescued {
        outcome: rescued.outcome(),
        reason: report.reason.clone(),
        lock: report.lock.clone(),
        by: report.by_uid.to_string(),
    });
    draft.document
}

/// The document of how a process stood when the watch of it began.
pub fn assessment(context: &Context, sequence: u64, standing: &Standing) -> Document {
    let Standing { at, process, program, verdict, reasons, children, stuck, unseen } = standing;
    let mut draft = Draft::new(context, sequence, *at, Action::Assessment, Type::Info);
    draft.document.process = Some(Process {
        name: draft.name(&program.comm),
        executable: program.exe.as_deref().map(|exe| exe.to_string_lossy().into_owned()),
        args: program.cmdline.clone(),
        user: program.uid.and_then(user),
        ..draft.process(*process)
    });
    let reasons = reasons.iter().map(|reason| document::AssessmentReason {
        id: reason.id.clone(),
        weight: reason.weight.name(),
        what: reason.what.clone(),
    });
    draft.document.forkwatch.assessment = Some(document::Assessment {
        verdict: verdict.name(),
        reasons: reasons.collect(),
        forked_children: *children,
        stuck_children: stuck.clone(),
        unseen_children: (*unseen > 0).then_some(*unseen),
    });
    draft.document
}

/// A document on its way.
struct Draft<'a> {
    context: &'a Context,
    document: Document,
}

impl<'a> Draft<'a> {
    fn new(context: &'a Context, sequence: u64, at: BootTime, action: Action, kind: Type) -> Self {
        let document = Document {
            schema: "forkwatch.event/1",
            timestamp: time(context, at),
            event: EventFields {
                kind: if action == Action::Finding { Kind::Alert } else { Kind::Event },
                category: [Category::Process],
                types: [kind],
                action,
                sequence,
                outcome: None,
                duration: None,
            },
            host: Host {
                name: context.host_name.clone(),
                boot: context.boot_id.clone().map(|id| Boot { id }),
            },
            process: None,
            container: None,
            service: None,
            error: None,
            forkwatch: Forkwatch::default(),
        };
        Self { context, document }
    }

    fn process(&self, key: ProcessKey) -> Process {
        Process {
            pid: key.tgid,
            entity_id: self.context.entity_id(key),
            start: Some(time(self.context, key.start)),
            ..Process::default()
        }
    }

    /// The comm of `process`, also in its bytes where the text does not have them all.
    fn name(&mut self, comm: &Comm) -> Option<String> {
        if std::str::from_utf8(comm.bytes()).is_err() {
            let digits = comm.bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
            self.document.forkwatch.raw_name =
                Some(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect());
        }
        name(comm)
    }

    fn origin(&mut self, origin: event::Origin) {
        self.document.forkwatch.origin =
            Some(document::Origin { cpu: origin.cpu, sequence: origin.sequence });
    }

    fn cgroup(&mut self, id: u64) {
        self.document.forkwatch.cgroup = Some(Cgroup { id: Some(id.to_string()), path: None });
    }

    fn fork(mut self, fork: &event::Fork, thread_names: &[Comm]) -> Document {
        let parent = Process {
            name: name(&fork.comm),
            user: user(fork.uid),
            thread: Some(Thread { id: fork.parent_tid, name: name(&fork.comm), ..Thread::default() }),
            ..self.process(fork.parent)
        };
        self.document.process = Some(Process {
            name: self.name(&fork.comm),
            user: user(fork.uid),
            parent: Some(Box::new(parent)),
            ..self.process(fork.child)
        });
        self.document.forkwatch.fork = Some(document::Fork {
            kind: fork.kind.name(),
            threads: fork.threads,
            thread_names: thread_names.iter().map(Comm::to_text).collect(),
            pending_signals: fork.pending().names(),
            blocked_signals: fork.blocked.names(),
            generation: fork.generation,
            namespace_pid: Some(fork.child_namespace_pid).filter(|pid| *pid != 0),
            tracked: fork.tracked,
        });
        self.cgroup(fork.cgroup);
        self.origin(fork.origin);
        self.document
    }

    fn exec(mut self, exec: &event::Exec) -> Document {
        self.document.process = Some(Process {
            name: self.name(&exec.comm),
            user: user(exec.uid),
            parent: parent(exec.parent_tgid),
            ..self.process(exec.process)
        });
        self.document.forkwatch.exec = Some(document::Exec {
            fork_kind: exec.fork.map(|fork| fork.kind.name()),
            since_fork_ns: exec.fork.map(|fork| fork.since),
            from_thread: Some(exec.from_tid).filter(|tid| *tid != exec.process.tgid),
            blocked_signals: exec.blocked.names(),
        });
        self.cgroup(exec.cgroup);
        self.origin(exec.origin);
        self.document
    }

    fn exit(mut self, exit: &event::Exit) -> Document {
        let (exit_code, killed) = match exit.status {
            ExitStatus::Code(code) => (Some(code), None),
            ExitStatus::Signal { number, core_dumped } => (None, Some((number, core_dumped))),
        };
        self.document.process = Some(Process {
            name: self.name(&exit.comm),
            end: Some(time(self.context, exit.at)),
            exit_code,
            parent: parent(exit.parent_tgid),
            ..self.process(exit.process)
        });
        self.document.forkwatch.exit = Some(document::Exit {
            fork_kind: exit.kind.name(),
            lifetime_ns: exit.lifetime,
            meaning: exit_code.and_then(|code| meaning(code, &exit.comm.to_text())),
            signal: killed.map(|(number, _)| signal_name(number.into())),
            core_dumped: killed.map(|(_, core_dumped)| core_dumped),
        });
        self.origin(exit.origin);
        self.document
    }

    fn thread(mut self, thread: &event::Thread) -> Document {
        self.document.process = Some(Process {
            pid: thread.tgid,
            name: self.name(&thread.comm),
            thread: Some(Thread { id: thread.tid, ..Thread::default() }),
            ..Process::default()
        });
        self.document.forkwatch.thread =
            Some(NewThread { creator: thread.parent_tid, threads: thread.threads });
        self.origin(thread.origin);
        self.document
    }

    fn clone_failure(mut self, failure: &event::CloneFailure, limit: Option<&Limit>) -> Document {
        let error = i32::try_from(failure.errno).map_or(nix::Error::UnknownErrno, nix::Error::from_raw);
        self.document.event.outcome = Some(Outcome::Failure);
        self.document.event.duration = Some(failure.duration);
        self.document.error =
            Some(ErrorFields { code: format!("{error:?}"), message: error.desc().to_owned() });
        self.document.process = Some(Process {
            pid: failure.tgid,
            name: self.name(&failure.comm),
            user: user(failure.uid),
            thread: Some(Thread { id: failure.tid, name: name(&failure.comm), ..Thread::default() }),
            ..Process::default()
        });
        self.document.forkwatch.clone_failure =
            limit.map(|limit| document::CloneFailure { cause: limit.cause, cgroup: limit.cgroup.clone() });
        self.cgroup(failure.cgroup);
        self.origin(failure.origin);
        self.document
    }

    fn lost(mut self, lost: &Lost) -> Document {
        let since = time(self.context, lost.since);
        self.document.forkwatch.lost =
            Some(document::Lost { count: lost.count, since, reason: lost.reason.name() });
        self.document
    }

    fn finding(mut self, finding: &Finding) -> Document {
        let Program { comm, exe, cmdline, unit, container, cgroup, uid, provenance } = &finding.program;
        let blamed = Process {
            name: name(comm),
            executable: exe.as_ref().map(|path| path.to_string_lossy().into_owned()),
            args: cmdline.clone(),
            user: uid.and_then(user),
            ..self.process(finding.parent)
        };
        // Where nobody knows who forked the child, what is told is its own program, and it has no parent to blame.
        self.document.process = Some(if finding.parent == finding.child {
            blamed
        } else {
            Process {
                name: self.name(&finding.child_comm),
                user: finding.child_uid.and_then(user),
                parent: Some(Box::new(blamed)),
                ..self.process(finding.child)
            }
        });
        self.document.forkwatch.provenance = provenance.as_ref().map(|seen| document::Provenance {
            owner: finding.program.owner(),
            namespaces: seen.namespaces.clone(),
            executable: Some(seen.executable).filter(|seen| *seen != Executable::Unknown),
            login: seen.login.map(|uid| uid.to_string()),
            marks: marks(&finding.program),
        });
        self.document.container = container.clone().map(|id| Container { id });
        self.document.service = unit.clone().map(|name| Service { name });
        self.document.forkwatch.cgroup = cgroup.clone().map(|path| Cgroup { id: None, path: Some(path) });
        self.document.forkwatch.finding = Some(self.judgement(finding));
        self.document
    }

    fn judgement(&self, finding: &Finding) -> document::Finding {
        let (state, resolution) = match finding.state {
            State::Suspected => (FindingState::Suspected, None),
            State::Confirmed => (FindingState::Confirmed, None),
            State::Unknown => (FindingState::Unknown, None),
            State::Resolved(how) => (FindingState::Resolved, Some(FindingResolution::from(how))),
        };
        let threads = finding.facts.threads.iter();
        document::Finding {
            id: self
                .context
                .entity_id(finding.child)
                .map(|child| format!("{}/{child}", finding.hazard.name())),
            number: finding.number,
            hazard: finding.hazard,
            state,
            resolution,
            certainty: finding.certainty,
            severity: finding.severity,
            summary: finding.summary.clone(),
            program: finding.program_name.clone(),
            repeats: finding.repeats,
            evidence: Evidence {
                threads: threads.map(|of| thread(of, &finding.facts.occupations)).collect(),
                thread_count: finding.facts.thread_count,
                signals: finding.facts.signals.names(),
                age_ns: finding.facts.age,
                lock: finding.facts.lock.as_deref().cloned(),
                connection: finding.facts.connection.as_deref().cloned(),
                history: finding.facts.history.as_deref().cloned(),
                end: finding.facts.end.as_deref().cloned(),
                leak: finding.facts.leak.as_deref().cloned(),
                held: finding.facts.held.clone(),
                again: finding.facts.again.iter().map(|repeat| self.again(repeat)).collect(),
                unnamed: Some(finding.facts.unnamed).filter(|count| *count > 0),
                notes: finding.facts.notes.clone(),
            },
            remedy: finding.remedy.clone(),
        }
    }
}

impl Draft<'_> {
    fn again(&self, repeat: &Repeat) -> document::Again {
        document::Again {
            pid: repeat.child.tgid,
            entity_id: self.context.entity_id(repeat.child),
            name: name(&repeat.comm),
            at: time(self.context, repeat.at),
        }
    }
}

fn time(context: &Context, at: BootTime) -> String {
    format!("{:.9}", context.timestamp(at))
}

fn thread(seen: &SeenThread, occupations: &[Occupation]) -> Thread {
    let comm = name(&seen.comm);
    let known = occupation(seen.tid, occupations);
    Thread {
        id: seen.tid,
        own_name: known.and_then(|known| known.name.clone()).filter(|own| Some(own) != comm.as_ref()),
        at: known.and_then(|known| known.at.clone()),
        name: comm,
    }
}

fn name(comm: &Comm) -> Option<String> {
    Some(comm.to_text()).filter(|text| !text.is_empty())
}

#[expect(clippy::unnecessary_wraps, reason = "fills a field that is absent in other documents")]
fn user(uid: u32) -> Option<User> {
    Some(User { id: uid.to_string() })
}

fn parent(pid: u32) -> Option<Box<Process>> {
    (pid != 0).then(|| Box::new(Process { pid, ..Process::default() }))
}

#[cfg(test)]
mod tests;
