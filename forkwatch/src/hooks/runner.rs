//! Runs hooks for events: those of one event one after the other, and several events at a time.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    How, Ran,
    book::Entry,
    event::{Event, Still},
    exec::{self, Program},
    post::{self, Letter},
    queue::Queue,
    stop::Stop,
};
use crate::{
    config::hook::{Argument, Deed, Hook, Placeholder},
    tls::Trust,
};

/// Events whose hooks run at a time.
const AT_A_TIME: usize = 4;

/// An event, and the hooks that are to run for it, in their order.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) event: Event,
    pub(super) entries: Vec<Arc<Entry>>,
}

/// The threads that run hooks.
pub(super) struct Runners(Vec<JoinHandle<()>>);

impl Runners {
    pub(super) fn start(queue: &Arc<Queue<Job>>, stop: &Arc<Stop>) -> io::Result<Self> {
        let start = |number| {
            let (queue, stop) = (Arc::clone(queue), Arc::clone(stop));
            let work = move || {
                while let Some(job) = queue.next() {
                    work_on(&job, &stop);
                }
            };
            thread::Builder::new().name(format!("hook-runner-{number}")).spawn(work)
        };
        (0..AT_A_TIME).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for their end, which somebody has asked for.
    pub(super) fn join(self) {
        for runner in self.0 {
            if runner.join().is_err() {
                tracing::error!("a thread that ran hooks has failed");
            }
        }
    }
}

fn work_on(job: &Job, stop: &Stop) {
    // One that fails keeps none of the others from running.
    for entry in job.entries.iter().filter(|entry| entry.is_enabled()) {
        if stop.is_asked() {
            return;
        }
        let ran = run(&entry.hook, &job.event, false, stop);
        entry.note(&ran);
        say(&entry.hook.name, &job.event, &ran);
    }
}

fn say(hook: &str, event: &Event, ran: &Ran) {
    let about = event.told.hazard.as_deref().unwrap_or(&event.told.action);
    let took = shown(ran.took);
    match ran.how {
        How::Good => tracing::info!(hook, about, took, "{}", ran.how.words()),
        How::Gone(_) => tracing::info!(hook, about, "{}", ran.how.words()),
        _ => {
            let output = ran.output.lines().next_back().unwrap_or_default();
            tracing::warn!(hook, about, took, output, "{}", ran.how.words());
        }
    }
}

/// `0.25s`
pub(super) fn shown(took: Duration) -> String {
    format!("{:.2}s", took.as_secs_f64())
}

/// Runs a hook for an event.
pub(super) fn run(hook: &Hook, event: &Event, is_test: bool, stop: &Stop) -> Ran {
    match &hook.deed {
        Deed::Exec(arguments) => match words(arguments, event) {
            Ok(words) => {
                let test = if is_test { "1" } else { "" };
                let variables = [("FORKWATCH_HOOK", hook.name.as_str()), ("FORKWATCH_TEST", test)];
                let program = Program {
                    words: &words,
                    document: &event.line,
                    variables: &variables,
                    timeout: hook.timeout,
                };
                exec::run(&program, stop)
            }
            Err(how) => Ran { how, took: Duration::ZERO, output: String::new(), written: 0 },
        },
        Deed::Post { url, ca_file, headers, retries } => {
            let (timeout, retries, document) = (hook.timeout, *retries, &event.line);
            let trust = ca_file.as_deref().map_or(Trust::Host, Trust::File);
            post::send(&Letter { url, trust, headers, document, is_test, timeout, retries }, stop)
        }
    }
}

/// The program with its arguments. A pid is given only while its process is the one that the event is about; that of a
/// process whose end the event tells, in any case.
fn words(arguments: &[Argument], event: &Event) -> Result<Vec<String>, How> {
    for placeholder in [Placeholder::Pid, Placeholder::Parent] {
        if placeholder == Placeholder::Pid && event.told.is_of_an_end() {
            continue;
        }
        if !arguments.iter().any(|argument| argument.names(placeholder)) {
            continue;
        }
        match event.is_still(placeholder) {
            Still::There => {}
            Still::Gone => return Err(How::Gone("the process has ended")),
            Still::Unseen => {
                return Err(How::Gone("the process cannot be seen from here, so it may be another one"));
            }
        }
    }
    let missing =
        |placeholder: Placeholder| How::Failed(format!("the event has no {{{}}}", placeholder.name()));
    arguments.iter().map(|argument| argument.of(event).map_err(missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::hook::Hooks, hooks::book::Book, host, model::time::TICK};

    fn event(pid: u32, ticks: u64) -> Event {
        let line = format!(
            r#"{{"event": {{"action": "finding"}}, "process": {{"pid": {pid}, "entity_id": "0ec2-{pid}-{ticks}"}},
                "forkwatch": {{"finding": {{"hazard": "orphaned-lock", "state": "confirmed"}}}}}}"#
        );
        Event::read(&line.replace('\n', "")).unwrap()
    }

    #[test]
    fn hooks_of_an_event_run_in_their_order_whatever_the_ones_before_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("order");
        let hook = |name: &str, order: i32, end: &str| {
            format!(
                "[[hook]]\nname = \"{name}\"\non = [\"finding\"]\norder = {order}\n\
                 exec = [\"/bin/sh\", \"-c\", \"echo {name} >> {}; {end}\"]\n",
                file.display()
            )
        };
        let text = hook("a", 0, "exit 1") + &hook("b", 0, "kill -9 $$") + &hook("first", -1, "exit 0");
        let book = Book::new(Hooks::parse("x", &text).unwrap());
        let event = event(std::process::id(), 0);
        let job = Job { entries: book.wanting(&event), event };
        work_on(&job, &Stop::new().unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "first\nb\na\n");
        let counts = |name: &str| book.find(name).unwrap().counts();
        assert_eq!((counts("first").good, counts("a").failed, counts("b").failed), (1, 1, 1));
        // When everything ends, no further one begins.
        let stop = Stop::new().unwrap();
        stop.ask();
        work_on(&job, &stop);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "first\nb\na\n");
    }

    #[test]
    fn a_pid_is_given_only_while_it_is_that_process() {
        let text =
            "[[hook]]\nname = \"x\"\non = [\"finding\"]\nexec = [\"/bin/echo\", \"{pid}\", \"{hazard}\"]\n";
        let hook = Hooks::parse("x", text).unwrap().0.remove(0);
        let stop = Stop::new().unwrap();
        let own = std::process::id();
        let ticks = host::find(own).unwrap().key.start.0 / TICK;
        let ran = run(&hook, &event(own, ticks), false, &stop);
        assert_eq!((ran.how, ran.output), (How::Good, format!("{own} orphaned-lock")));
        let ran = run(&hook, &event(own, ticks + 9), false, &stop);
        assert_eq!(ran.how, How::Gone("the process has ended"));
    }

    #[test]
    fn the_pid_of_a_process_whose_end_is_told_is_given_though_it_is_gone() {
        let text = "[[hook]]\nname = \"x\"\non = [\"worker_exited\", \"worker_replaced\", \"finding\"]\n\
                    exec = [\"/bin/echo\", \"{pid}\", \"PARENT\"]\n";
        let hook = |parent: &str| Hooks::parse("x", &text.replace("PARENT", parent)).unwrap().0.remove(0);
        let own = std::process::id();
        let how = |parent: &str, action: &str, finding: &str| {
            let line = format!(
                r#"{{"event": {{"action": "{action}"}}, "process": {{"pid": {own}, "entity_id": "0ec2-{own}-7",
                    "parent": {{"pid": {own}, "entity_id": "0ec2-{own}-7"}}}}, "forkwatch": {{"finding": {finding}}}}}"#
            );
            let event = Event::read(&line.replace('\n', "")).unwrap();
            let ran = run(&hook(parent), &event, false, &Stop::new().unwrap());
            (ran.how, ran.output)
        };
        let given = || (How::Good, format!("{own} -"));
        let gone = || (How::Gone("the process has ended"), String::new());
        assert_eq!(how("-", "worker_exited", "{}"), given());
        assert_eq!(how("-", "finding", r#"{"hazard": "orphaned-lock", "state": "resolved"}"#), given());
        for hazard in ["worker-killed-while-stuck", "crash-loop", "unreaped-children", "worker-not-replaced"]
        {
            let finding = format!(r#"{{"hazard": "{hazard}", "state": "confirmed"}}"#);
            assert_eq!(how("-", "finding", &finding), given(), "{hazard}");
        }
        // These tell of somebody who lives, and a parent is never told to have ended.
        assert_eq!(how("-", "worker_replaced", "{}"), gone());
        assert_eq!(how("-", "finding", r#"{"hazard": "orphaned-lock", "state": "confirmed"}"#), gone());
        assert_eq!(how("{parent}", "worker_exited", "{}"), gone());
    }

    #[test]
    fn an_event_without_the_value_is_said() {
        let text = "[[hook]]\nname = \"x\"\non = [\"finding\"]\nexec = [\"/bin/echo\", \"{uid}\"]\n";
        let hook = Hooks::parse("x", text).unwrap().0.remove(0);
        let ran = run(&hook, &event(7, 7), false, &Stop::new().unwrap());
        assert_eq!(ran.how, How::Failed("the event has no {uid}".to_owned()));
    }
}
