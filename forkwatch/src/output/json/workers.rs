//! The documents of workers.

use super::{
    Draft, Process,
    document::{
        Action, Document, LastActivity, OutputLost, Service, Type, Worker, WorkerOutput, WorkerSource,
    },
    name, time, user,
};
use crate::{
    model::{
        time::BootTime,
        worker::{Exited, Ready, WorkSource, WorkerChange, WorkerEvent},
        written::{Unshown, WrittenLine},
    },
    output::Context,
};

/// The document of something that has happened to a worker; none for what a finding tells.
pub fn worker(context: &Context, sequence: u64, event: &WorkerEvent) -> Option<Document> {
    let (action, kind) = match &event.change {
        WorkerChange::Forked { .. } => (Action::WorkerForked, Type::Start),
        WorkerChange::Ready(_) => (Action::WorkerReady, Type::Change),
        WorkerChange::Stopping(_) => (Action::WorkerStopping, Type::Change),
        WorkerChange::Exited(_) => (Action::WorkerExited, Type::End),
        WorkerChange::Replaced { .. } => (Action::WorkerReplaced, Type::Info),
        WorkerChange::NotReady { .. } => return None,
    };
    let mut draft = Draft::new(context, sequence, event.at, action, kind);
    let server = &event.server;
    let master = Process { user: server.uid.and_then(user), ..draft.process(server.master) };
    let mut process = Process {
        name: draft.name(&event.comm).or_else(|| name(&event.comm)),
        parent: Some(Box::new(master)),
        ..draft.process(event.worker)
    };
    let mut worker = Worker {
        server: server.name.clone(),
        known: server.known,
        class: server.class.clone(),
        slot: event.slot.clone(),
        replaces: event.replaces,
        ..Worker::default()
    };
    match &event.change {
        WorkerChange::Forked { seen, state } => {
            worker.fork_seen = Some(*seen);
            worker.state = Some(state.name());
        }
        WorkerChange::Ready(ready) => {
            let Ready { after, exact, source } = ready;
            worker.ready_after_ns = Some(*after);
            worker.ready_exact = Some(*exact);
            worker.awaits = Some(self::source(source));
        }
        WorkerChange::Stopping(stopping) => {
            worker.signal = Some(stopping.signal.clone());
            worker.sent_by = Some(stopping.sent_by);
            worker.sender.clone_from(&stopping.sender);
        }
        WorkerChange::Exited(exited) => {
            let Exited { end, lifetime, state, last, stuck, said } = &**exited;
            worker.last_output.clone_from(said);
            process.end = Some(time(context, event.at));
            process.exit_code = end.as_ref().and_then(|end| end.exit_code);
            worker.end.clone_from(end);
            worker.lifetime_ns = Some(*lifetime);
            worker.state = Some(state.name());
            worker.last_activity =
                last.as_ref().map(|(at, what)| LastActivity { at: time(context, *at), what: what.clone() });
            worker.stuck_in.clone_from(stuck);
        }
        WorkerChange::Replaced { gap } => worker.gap_ns = Some(*gap),
        WorkerChange::NotReady { .. } => {}
    }
    draft.document.process = Some(process);
    draft.document.service = server.unit.clone().map(|name| Service { name });
    draft.document.forkwatch.worker = Some(worker);
    Some(draft.document)
}

/// The document of a line that a worker has written.
pub fn written(context: &Context, sequence: u64, line: &WrittenLine) -> Option<Document> {
    let (process, comm) = line.by.first()?;
    let mut draft = Draft::new(context, sequence, line.at, Action::WorkerOutput, Type::Info);
    let named = draft.name(comm).or_else(|| name(comm));
    draft.document.process = Some(Process { name: named, ..draft.process(*process) });
    let one_of = match line.by.as_slice() {
        [_] => Vec::new(),
        several => several.iter().map(|(one, _)| one.tgid).collect(),
    };
    draft.document.forkwatch.worker = Some(Worker {
        server: line.server.0.clone(),
        known: line.server.1,
        output: Some(WorkerOutput {
            text: line.text.clone(),
            descriptor: line.descriptor,
            one_of,
            cut: line.is_cut,
        }),
        ..Worker::default()
    });
    Some(draft.document)
}

/// The document of what workers have written and is not told.
pub fn unshown(
    context: &Context,
    sequence: u64,
    unshown: &Unshown,
    since: BootTime,
    at: BootTime,
) -> Document {
    let mut draft = Draft::new(context, sequence, at, Action::WorkerOutputLost, Type::Info);
    draft.document.forkwatch.output_lost = Some(OutputLost {
        lines: unshown.lines,
        unread_bytes: unshown.passed_over,
        taken_bytes: unshown.taken,
        since: time(context, since),
    });
    draft.document
}

fn source(source: &WorkSource) -> WorkerSource {
    let (kind, name) = match source {
        WorkSource::Listener(address) => ("listener", Some(address)),
        WorkSource::Connection(peer) => ("connection", Some(peer)),
        WorkSource::Queue(link) => ("queue", Some(link)),
        WorkSource::Turn => ("turn", None),
    };
    WorkerSource { kind, name: name.cloned() }
}
