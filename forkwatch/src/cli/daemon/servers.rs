//! Servers and their workers, for those who ask.

use crate::{
    api::{ServerDocument, Servers, WorkerDocument, WorkerEndDocument, Workers},
    model::{
        child_end::ChildEnd,
        process::escape,
        time::BootTime,
        worker_table::{ServerRecord, WorkerEnd, WorkerRecord, WorkerTable},
    },
    output::Context,
};

/// So many of them at most, the one that changed last first. So often something was told of them.
pub(in crate::cli) fn servers(table: &WorkerTable, told: u64, most: usize, context: &Context) -> Servers {
    let servers = table.servers.iter().rev().take(most).map(|record| server(record, context));
    Servers { schema: "forkwatch.servers/1".to_owned(), servers: servers.collect(), told }
}

/// The living workers: of this master, or this one, where a pid is given.
pub(super) fn workers(table: &WorkerTable, context: &Context, pid: Option<u32>) -> Workers {
    let all = table.servers.iter().flat_map(|server| server.workers.iter().map(move |one| (server, one)));
    let is_asked = |(server, one): &(&ServerRecord, &WorkerRecord)| {
        pid.is_none_or(|pid| [server.server.master.tgid, one.process.tgid].contains(&pid))
    };
    let workers = all.filter(is_asked).map(|(server, one)| worker(server, one, context));
    Workers { schema: "forkwatch.workers/1".to_owned(), workers: workers.collect() }
}

fn server(record: &ServerRecord, context: &Context) -> ServerDocument {
    let server = &record.server;
    ServerDocument {
        name: safe(&server.name),
        known: server.known,
        class: server.class.as_deref().map(safe),
        unit: server.unit.as_deref().map(safe),
        uid: server.uid,
        master_pid: server.master.tgid,
        master_entity_id: context.entity_id(server.master),
        master_start: time(context, server.master.start),
        changed: time(context, record.changed),
        workers: record.workers.iter().map(|one| worker(record, one, context)).collect(),
        ends: record.ends.iter().map(|one| end(one, context)).collect(),
        ended: record.ended,
    }
}

fn worker(server: &ServerRecord, one: &WorkerRecord, context: &Context) -> WorkerDocument {
    let ready = one.ready.as_ref();
    WorkerDocument {
        pid: one.process.tgid,
        entity_id: context.entity_id(one.process),
        master_pid: server.server.master.tgid,
        server: safe(&server.server.name),
        name: escape(one.comm.bytes()),
        slot: one.slot.as_deref().map(safe),
        replaces: one.replaces,
        start: time(context, one.process.start),
        state: one.state.name().to_owned(),
        since: time(context, one.since),
        ready_after_ns: ready.map(|ready| ready.after),
        ready_exact: ready.map(|ready| ready.exact),
        work: ready.map(|ready| safe(&ready.source.words())),
    }
}

fn end(one: &WorkerEnd, context: &Context) -> WorkerEndDocument {
    let exited = &one.exited;
    let last = exited.last.as_ref();
    WorkerEndDocument {
        pid: one.process.tgid,
        name: escape(one.comm.bytes()),
        slot: one.slot.as_deref().map(safe),
        at: time(context, one.at),
        how: how(exited.end.as_ref()),
        words: exited.end.as_ref().map(|end| safe(&end.words())),
        lifetime_ns: exited.lifetime,
        state: exited.state.name().to_owned(),
        last_activity: last.map(|(_, doing)| safe(doing)),
        last_seen: last.map(|(at, _)| time(context, *at)),
        stuck: exited.stuck.clone(),
        replaced_by: one.replaced_by,
    }
}

/// How it ended, in a word or two.
fn how(end: Option<&ChildEnd>) -> String {
    match end {
        None => "unknown".to_owned(),
        Some(ChildEnd { exit_code: Some(code), .. }) => format!("code {code}"),
        Some(ChildEnd { signal, .. }) => signal.clone().unwrap_or_else(|| "signal".to_owned()),
    }
}

fn time(context: &Context, at: BootTime) -> String {
    format!("{:.3}", context.timestamp(at))
}

fn safe(text: &str) -> String {
    escape(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        process::ProcessKey,
        worker::{Exited, Ready, WorkSource, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
    };

    fn event(worker: u32, seconds: u64, change: WorkerChange) -> WorkerEvent {
        let process = |tgid| ProcessKey { tgid, start: BootTime(u64::from(tgid) * 1_000_000_000) };
        WorkerEvent {
            at: BootTime(seconds * 1_000_000_000),
            change,
            worker: process(worker),
            comm: "gunicorn".into(),
            server: WorkersServer {
                master: process(10),
                name: "gunicorn\x1b[31m".to_owned(),
                known: true,
                class: Some("gthread".to_owned()),
                unit: Some("web.service".to_owned()),
                uid: Some(33),
            },
            slot: None,
            replaces: None,
        }
    }

    #[test]
    fn a_server_is_told_with_its_workers_and_the_last_ends() {
        let mut table = WorkerTable::default();
        let source = WorkSource::Listener("127.0.0.1:8000".to_owned());
        let exited = Exited {
            end: None,
            lifetime: 5,
            state: WorkerState::Ready,
            last: Some((BootTime(14_000_000_000), "in work".to_owned())),
            stuck: None,
            said: Vec::new(),
        };
        for event in [
            event(11, 11, WorkerChange::Forked { seen: true, state: WorkerState::Starting }),
            event(11, 12, WorkerChange::Ready(Ready { after: 7, exact: true, source })),
            event(12, 12, WorkerChange::Forked { seen: true, state: WorkerState::Starting }),
            event(12, 15, WorkerChange::Exited(Box::new(exited))),
        ] {
            table.take(&event);
        }
        let context = Context::default();
        let told = servers(&table, 4, usize::MAX, &context);
        let [server] = told.servers.as_slice() else { panic!("{told:?}") };
        assert!(!server.name.contains('\x1b'), "{}", server.name);
        assert_eq!((server.master_pid, server.ended), (10, 1));
        let [worker] = server.workers.as_slice() else { panic!("{server:?}") };
        assert_eq!((worker.pid, worker.state.as_str(), worker.ready_after_ns), (11, "ready", Some(7)));
        assert_eq!(worker.work.as_deref(), Some("awaits connections at 127.0.0.1:8000"));
        let [end] = server.ends.as_slice() else { panic!("{server:?}") };
        assert_eq!(
            (end.pid, end.how.as_str(), end.last_activity.as_deref()),
            (12, "unknown", Some("in work"))
        );
        assert_eq!(workers(&table, &context, Some(10)).workers.len(), 1);
        assert_eq!(workers(&table, &context, Some(12)).workers.len(), 0);
    }
}
