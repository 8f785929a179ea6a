//! Written timelines: what a server's processes do at given milliseconds, and a host that answers at once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    event::{CloneKind, ExitStatus, Origin},
    loaded::Loaded,
    process::Program,
    signals::SignalSet,
    worker::{WorkSource, WorkerChange, WorkerState},
    worker_look::{Who, WorkerLook, WorkerSeen},
};

const MILLI: u64 = 1_000_000;
const MASTER: u32 = 100;

fn ms(milliseconds: u64) -> BootTime {
    BootTime(milliseconds * MILLI)
}

/// A process that starts at so many milliseconds.
fn process(tgid: u32, start: u64) -> ProcessKey {
    ProcessKey { tgid, start: ms(start) }
}

fn master() -> ProcessKey {
    process(MASTER, 1)
}

fn listener() -> WorkSource {
    WorkSource::Listener("127.0.0.1:8000".to_owned())
}

/// What one does from a time on.
#[derive(Clone)]
struct Does {
    from: u64,
    source: Option<WorkSource>,
}

/// A host with one server.
struct Host {
    lives: Lives,
    program: Program,
    loaded: Vec<Loaded>,
    listens: bool,
    /// What each does, by the time.
    does: BTreeMap<ProcessKey, Vec<Does>>,
    wakes: Vec<(BootTime, ProcessKey)>,
    told: Vec<WorkerEvent>,
    asked: Vec<(BootTime, Vec<ProcessKey>, bool)>,
    watched: Vec<ProcessKey>,
    /// Whether questions are answered.
    answers: bool,
    now: BootTime,
}

impl Host {
    fn of(words: &[&str], exe: &str) -> Self {
        let program = Program {
            comm: exe.into(),
            exe: Some(format!("/usr/bin/{exe}").into()),
            cmdline: words.iter().map(|word| (*word).to_owned()).collect(),
            unit: Some("shop.service".to_owned()),
            uid: Some(0),
            ..Program::default()
        };
        Self {
            lives: Lives::default(),
            program,
            loaded: Vec::new(),
            listens: true,
            does: BTreeMap::new(),
            wakes: Vec::new(),
            told: Vec::new(),
            asked: Vec::new(),
            watched: Vec::new(),
            answers: true,
            now: ms(0),
        }
    }

    fn gunicorn() -> Self {
        Self::of(&["/usr/bin/python3", "/usr/bin/gunicorn", "-w", "2", "app:app"], "python3")
    }

    fn forks(&mut self, tgid: u32, at: u64) -> ProcessKey {
        self.until(at);
        let child = process(tgid, at);
        self.does.insert(child, vec![Does { from: 0, source: None }]);
        let deeds = self.lives.forked(&fork(child, at));
        self.do_all(deeds);
        child
    }

    fn waits(&mut self, child: ProcessKey, from: u64, source: Option<WorkSource>) {
        self.does.entry(child).or_default().push(Does { from, source });
    }

    fn ends(&mut self, child: ProcessKey, at: u64, status: ExitStatus) {
        self.until(at);
        self.does.remove(&child);
        let exit = exit(child, at, status);
        let deeds = self.lives.ended(&exit, ChildEnd::new(&exit, None), None);
        self.do_all(deeds);
    }

    fn signal(&mut self, number: u32, child: ProcessKey, sender_tgid: u32, at: u64) {
        self.until(at);
        let comm = "gunicorn".into();
        let signal =
            Signal { origin: Origin::default(), at: ms(at), number, target: child, sender_tgid, comm };
        let deeds = self.lives.signalled(&signal);
        self.do_all(deeds);
    }

    /// Lets time pass.
    fn until(&mut self, milliseconds: u64) {
        let end = ms(milliseconds);
        loop {
            self.wakes.sort_unstable();
            let Some((at, of)) = self.wakes.first().copied().filter(|(at, _)| *at <= end) else { break };
            self.wakes.remove(0);
            self.now = self.now.max(at);
            let deeds = self.lives.look(of, self.now);
            self.do_all(deeds);
        }
        self.now = end;
    }

    fn do_all(&mut self, deeds: Vec<Deed>) {
        let mut open = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Wake(of, at) => {
                    self.wakes.retain(|(_, other)| *other != of);
                    self.wakes.push((at, of));
                }
                Deed::Watch(worker) => self.watched.push(worker),
                Deed::Tell(event) => self.told.push(*event),
                Deed::Ask(Request::Workers { master, workers, closely, children }) => {
                    self.asked.push((self.now, workers.clone(), closely));
                    open.push((master, workers, closely, children));
                }
                Deed::Ask(other) => panic!("{other:?}"),
            }
        }
        // Answers come after all that was said with the question.
        for (master, workers, closely, children) in
            open.into_iter().filter(|_| self.answers).collect::<Vec<_>>()
        {
            let mut seen = self.look(&workers, closely);
            if children {
                seen.children = self.does.keys().filter(|child| child.start <= self.now).copied().collect();
            }
            let deeds = self.lives.seen(master, Ok(&seen), self.now);
            self.do_all(deeds);
        }
    }

    fn look(&self, workers: &[ProcessKey], closely: bool) -> WorkersSeen {
        let who = || Who { program: self.program.clone(), loaded: self.loaded.clone() };
        let seen = |worker: &ProcessKey| WorkerSeen {
            process: *worker,
            who: closely.then(who),
            look: self.does.get(worker).map_or(WorkerLook::Gone, |does| {
                let now = does.iter().rfind(|does| ms(does.from) <= self.now);
                let source = now.and_then(|does| does.source.clone());
                WorkerLook::Alive {
                    comm: "gunicorn".into(),
                    threads: 1,
                    sources: source.into_iter().collect(),
                    doing: "poll".to_owned(),
                    place: Some("warm (shop.py:9)".to_owned()),
                }
            }),
        };
        WorkersSeen {
            at: self.now,
            master: closely.then(who),
            listens: self.listens,
            children: Vec::new(),
            workers: workers.iter().map(seen).collect(),
        }
    }

    /// What was told, each by its name and pid.
    fn names(&self) -> Vec<(&'static str, u32)> {
        self.told.iter().map(|event| (event.change.name(), event.worker.tgid)).collect()
    }
}

fn fork(child: ProcessKey, at: u64) -> Fork {
    Fork {
        origin: Origin::default(),
        at: ms(at),
        kind: CloneKind::Copying,
        parent: master(),
        parent_tid: MASTER,
        comm: "gunicorn".into(),
        uid: 0,
        cgroup: 1,
        threads: 1,
        pending_thread: SignalSet::EMPTY,
        pending_shared: SignalSet::EMPTY,
        blocked: SignalSet::EMPTY,
        child,
        child_namespace_pid: child.tgid,
        generation: 1,
        tracked: true,
    }
}

fn exit(child: ProcessKey, at: u64, status: ExitStatus) -> Exit {
    Exit {
        origin: Origin::default(),
        at: ms(at),
        process: child,
        parent_tgid: MASTER,
        kind: CloneKind::Copying,
        comm: "gunicorn".into(),
        status,
        lifetime: ms(at).0 - child.start.0,
    }
}

#[test]
fn a_worker_is_told_from_its_fork_to_its_end() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.waits(worker, 1500, Some(listener()));
    host.until(2000);
    host.signal(15, worker, MASTER, 9000);
    host.ends(worker, 9100, ExitStatus::Code(0));
    let expected =
        ["worker_forked", "worker_ready", "worker_stopping", "worker_exited"].map(|name| (name, 101));
    assert_eq!(host.names(), expected);
    let [forked, ready, _, exited] = host.told.as_slice() else { panic!("{:?}", host.told) };
    assert_eq!((forked.at, forked.server.name.as_str()), (ms(1000), "gunicorn"));
    let WorkerChange::Ready(told) = &ready.change else { panic!("{ready:?}") };
    assert!(told.exact && ready.at >= ms(1500) && ready.at <= ms(1525), "{ready:?}");
    assert_eq!(told.after, ready.at.0 - ms(1000).0);
    let WorkerChange::Exited(exited) = &exited.change else { panic!("{exited:?}") };
    assert_eq!((exited.state, exited.lifetime), (WorkerState::Stopping, 8100 * MILLI));
    assert_eq!(host.watched, [worker]);
}

#[test]
fn a_hook_that_polls_something_of_its_own_is_no_readiness() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.until(3000);
    assert_eq!(host.names(), [("worker_forked", 101)]);
    host.waits(worker, 3010, Some(listener()));
    host.until(4000);
    let ready = host.told.last().unwrap();
    assert!(ready.at >= ms(3010) && ready.at <= ms(3060), "{ready:?}");
}

#[test]
fn once_it_is_ready_it_is_left_alone() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.waits(worker, 1100, Some(listener()));
    host.until(4000);
    let asked = host.asked.len();
    host.until(600_000);
    assert_eq!(host.asked.len(), asked);
    // And before, no more often than each 25 ms.
    let times: Vec<BootTime> = host.asked.iter().map(|(at, ..)| *at).collect();
    assert!(times.is_sorted() && times.len() < 12, "{times:?}");
}

#[test]
fn who_is_forked_after_an_end_takes_that_place_and_nobody_elses() {
    let mut host = Host::gunicorn();
    for (tgid, at) in [(101, 1000), (102, 1010)] {
        let worker = host.forks(tgid, at);
        host.waits(worker, at + 200, Some(listener()));
    }
    host.ends(process(101, 1000), 20_000, ExitStatus::Signal { number: 9, core_dumped: false });
    host.forks(103, 20_100);
    host.forks(104, 20_200);
    host.until(21_000);
    let replaces = |pid: u32| host.told.iter().find(|event| event.worker.tgid == pid).unwrap().replaces;
    assert_eq!((replaces(103), replaces(104)), (Some(101), None));
    let told = host.told.iter().find(|event| event.change.name() == "worker_replaced").unwrap();
    assert_eq!(told.change, WorkerChange::Replaced { gap: 100 * MILLI });
}

#[test]
fn what_execs_or_ends_soon_is_no_worker() {
    let mut host = Host::gunicorn();
    for at in (1000..2000).step_by(10) {
        let job = host.forks(u32::try_from(at).unwrap(), at);
        if at % 20 == 0 {
            host.ends(job, at + 5, ExitStatus::Code(0));
        } else {
            host.until(at + 5);
            host.does.remove(&job);
            let deeds = host.lives.left(job, ms(at + 5));
            host.do_all(deeds);
        }
    }
    host.until(100_000);
    assert_eq!((host.names(), host.asked.len()), (Vec::new(), 0));
    assert_eq!(host.lives.remembers(), (1, true));
}

#[test]
fn a_burst_of_multiprocessing_is_no_server() {
    let mut host = Host::of(&["python3", "burst.py"], "python3");
    (host.loaded, host.listens) = (vec![Loaded::Multiprocessing], false);
    let jobs: Vec<ProcessKey> = (0..8).map(|index| host.forks(101 + index, 1000)).collect();
    host.until(5000);
    for job in jobs {
        host.ends(job, 5000, ExitStatus::Code(0));
    }
    host.until(60_000);
    assert_eq!(host.names(), []);
}

#[test]
fn a_pool_that_waits_for_jobs_is_one() {
    let mut host = Host::of(&["python3", "pool.py"], "python3");
    (host.loaded, host.listens) = (vec![Loaded::Multiprocessing], false);
    for (tgid, source) in [(101, WorkSource::Queue("pipe:[7]".to_owned())), (102, WorkSource::Turn)] {
        let worker = host.forks(tgid, 1000);
        host.waits(worker, 1050, Some(source));
    }
    host.until(3000);
    let mut names = host.names();
    names.sort_unstable();
    let each = |name| [(name, 101), (name, 102)];
    assert_eq!(names, [each("worker_forked"), each("worker_ready")].concat());
    assert!(
        host.told
            .iter()
            .filter(|event| event.change.name() == "worker_ready")
            .all(|event| event.at <= ms(1075))
    );
}

#[test]
fn a_program_that_keeps_one_child_is_no_server_and_one_that_keeps_two_is() {
    let mut host = Host::of(&["/usr/bin/served"], "served");
    host.forks(101, 1000);
    host.until(60_000);
    assert_eq!(host.names(), []);
    host.forks(102, 60_000);
    host.until(69_900);
    assert_eq!(host.names(), []);
    host.until(90_000);
    let mut names = host.names();
    names.sort_unstable();
    assert_eq!(names, [("worker_forked", 101), ("worker_forked", 102)]);
    assert!(host.told.iter().all(|event| !event.server.known && event.server.name == "served"));
}

#[test]
fn a_worker_that_never_waits_for_work_is_told_once_and_what_it_does() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.until(55_000);
    assert_eq!(host.names(), [("worker_forked", 101)]);
    host.until(300_000);
    assert_eq!(host.names(), [("worker_forked", 101), ("worker_not_ready", 101)]);
    let WorkerChange::NotReady { doing, after } = &host.told.last().unwrap().change else { panic!() };
    assert_eq!(doing, "waited in poll at warm (shop.py:9)");
    assert!(*after >= 60_000 * MILLI);
    host.waits(worker, 301_000, Some(listener()));
    host.until(400_000);
    let last = host.told.last().unwrap();
    assert!(matches!(&last.change, WorkerChange::Ready(ready) if !ready.exact), "{last:?}");
}

#[test]
fn one_of_a_pool_that_has_a_job_from_the_first_moment_on_is_not_missed() {
    let mut host = Host::of(&["python3", "pool.py"], "python3");
    (host.loaded, host.listens) = (vec![Loaded::Multiprocessing], false);
    let idle = host.forks(101, 1000);
    host.forks(102, 1000);
    host.waits(idle, 1050, Some(WorkSource::Queue("pipe:[7]".to_owned())));
    host.until(300_000);
    let mut names = host.names();
    names.sort_unstable();
    assert_eq!(names, [("worker_forked", 101), ("worker_forked", 102), ("worker_ready", 101)]);
}

#[test]
fn what_a_shell_had_forked_before_it_became_the_server_is_no_worker() {
    let mut host = Host::of(&["/bin/sh", "start.sh"], "sh");
    host.forks(99, 500);
    host.until(900);
    host.program = Host::gunicorn().program;
    let deeds = host.lives.left(process(MASTER, 1), ms(900));
    host.do_all(deeds);
    let worker = host.forks(101, 1000);
    host.waits(worker, 1050, Some(listener()));
    host.until(300_000);
    assert_eq!(host.names(), [("worker_forked", 101), ("worker_ready", 101)]);
}

#[test]
fn a_worker_at_work_from_the_first_moment_is_ready() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.waits(worker, 60_500, Some(WorkSource::Connection("10.0.0.7:5000".to_owned())));
    host.until(100_000);
    assert_eq!(host.names(), [("worker_forked", 101), ("worker_ready", 101)]);
}

#[test]
fn an_inherited_pipe_brings_no_work_to_a_server_of_connections() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.waits(worker, 1100, Some(WorkSource::Queue("pipe:[7]".to_owned())));
    host.until(20_000);
    assert_eq!(host.names(), [("worker_forked", 101)]);
}

#[test]
fn one_that_dies_at_once_of_a_known_server_is_told_with_its_end() {
    let mut host = Host::gunicorn();
    let first = host.forks(101, 1000);
    host.waits(first, 1200, Some(listener()));
    let second = host.forks(102, 5000);
    host.ends(second, 5010, ExitStatus::Code(3));
    assert_eq!(host.names().get(2..), Some([("worker_forked", 102), ("worker_exited", 102)].as_slice()));
    let WorkerChange::Exited(exited) = &host.told.last().unwrap().change else { panic!() };
    assert_eq!(exited.end.as_ref().unwrap().meaning.as_deref(), Some("gunicorn: a worker could not start"));
}

#[test]
fn those_that_were_there_before_are_found_as_they_are() {
    let mut host = Host::gunicorn();
    let (idle, busy) = (process(101, 1000), process(102, 1001));
    host.does.insert(idle, vec![Does { from: 0, source: Some(listener()) }]);
    host.does.insert(busy, vec![Does { from: 0, source: None }]);
    host.now = ms(500_000);
    for child in [idle, busy] {
        let deeds = host.lives.found(master(), child, ms(500_000));
        host.do_all(deeds);
    }
    host.until(500_100);
    let states: Vec<_> = host.told.iter().map(|event| (event.worker.tgid, event.change.clone())).collect();
    let forked = |state| WorkerChange::Forked { seen: false, state };
    assert_eq!(states, [(101, forked(WorkerState::Ready)), (102, forked(WorkerState::Unknown))]);
}

#[test]
fn one_that_ended_before_it_was_known_for_a_worker_is_none() {
    for lives in [true, false] {
        let mut host = Host::gunicorn();
        let child = process(101, 1000);
        if lives {
            host.does.insert(child, vec![Does { from: 0, source: Some(listener()) }]);
        }
        host.now = ms(500_000);
        // No record tells of its end.
        let deeds = host.lives.found(master(), child, ms(500_000));
        host.do_all(deeds);
        host.until(700_000);
        assert_eq!(host.told.is_empty(), !lives, "{:?}", host.told);
    }
}

#[test]
fn where_forks_are_not_told_another_worker_is_found_soon_after_an_end() {
    let mut host = Host::gunicorn();
    let old = process(101, 1000);
    host.does.insert(old, vec![Does { from: 0, source: Some(listener()) }]);
    host.now = ms(500_000);
    let deeds = host.lives.found(master(), old, ms(500_000));
    host.do_all(deeds);
    host.until(501_000);
    host.ends(old, 600_000, ExitStatus::Signal { number: 9, core_dumped: false });
    let new = process(102, 600_010);
    host.does.insert(new, vec![Does { from: 0, source: None }]);
    host.waits(new, 600_500, Some(listener()));
    host.until(700_000);
    let told: Vec<_> = host.told.iter().filter(|event| event.worker == new).collect();
    let [forked, replaced, ready] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((forked.at, forked.replaces), (ms(600_010), Some(101)));
    assert_eq!(replaced.change, WorkerChange::Replaced { gap: 10 * MILLI });
    let WorkerChange::Ready(told) = &ready.change else { panic!("{ready:?}") };
    assert!(told.exact && ready.at <= ms(600_530), "{ready:?}");
}

#[test]
fn a_signal_that_asks_for_nothing_or_comes_from_itself_stops_nobody() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.until(2000);
    for (number, sender) in [(10, MASTER), (15, 101), (15, 0), (1, MASTER)] {
        host.signal(number, worker, sender, 2000);
    }
    assert_eq!(host.names(), [("worker_forked", 101)]);
    host.signal(6, worker, MASTER, 2000);
    host.signal(9, worker, MASTER, 2500);
    assert_eq!(host.names(), [("worker_forked", 101), ("worker_stopping", 101)]);
}

#[test]
fn one_that_is_gone_without_a_record_is_told_after_some_time() {
    let mut host = Host::gunicorn();
    let worker = host.forks(101, 1000);
    host.until(2000);
    host.does.remove(&worker);
    let deeds = host.lives.doubted(worker, ms(2000));
    host.do_all(deeds);
    host.until(5000);
    assert_eq!(host.names(), [("worker_forked", 101)]);
    host.until(30_000);
    let WorkerChange::Exited(exited) = &host.told.last().unwrap().change else { panic!("{:?}", host.told) };
    assert_eq!(exited.end, None);
    assert_eq!(host.lives.remembers(), (1, true));
}

#[test]
fn where_nobody_answers_it_is_not_asked_for_ever() {
    let mut host = Host::gunicorn();
    host.answers = false;
    host.forks(101, 1000);
    host.until(1_000_000);
    assert!(host.asked.len() <= 3, "{:?}", host.asked);
}

#[test]
fn no_more_than_64_are_looked_at_often() {
    let mut host = Host::gunicorn();
    for tgid in 0..200 {
        host.forks(101 + tgid, 1000);
    }
    host.until(3000);
    let begin = host.asked.len();
    host.until(4000);
    let looks: usize = host.asked.iter().skip(begin).map(|(_, workers, _)| workers.len()).sum();
    assert!(looks <= 64 * 40, "{looks}");
    let most = host.asked.iter().map(|(_, workers, _)| workers.len()).max();
    assert_eq!(most, Some(64));
    let forked = host.names().iter().filter(|(name, _)| *name == "worker_forked").count();
    assert_eq!(forked, 200);
}

#[test]
fn thousands_of_children_of_any_program_are_looked_at_now_and_then() {
    let mut host = Host::of(&["/usr/bin/served"], "served");
    for tgid in 0..3000 {
        host.forks(1000 + tgid, 1000);
    }
    host.until(10_000);
    let looks = |host: &Host| host.asked.iter().map(|(_, workers, _)| workers.len()).sum::<usize>();
    assert!(looks(&host) <= 8, "{}", looks(&host));
    host.until(20_000);
    assert!(looks(&host) <= 8 * 25, "{}", looks(&host));
    assert!(host.names().contains(&("worker_forked", 1000)));
    host.until(400_000);
    let forked = host.names().iter().filter(|(name, _)| *name == "worker_forked").count();
    assert_eq!((forked, looks(&host) <= 3100), (3000, true), "{}", looks(&host));
}

/// Something that happens to one of a few children.
#[derive(Clone, Debug)]
enum Step {
    Fork(u32),
    Ready(u32),
    Stop(u32),
    End(u32, u8),
    Exec(u32),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let child = 0..6_u32;
    let step = prop_oneof![
        child.clone().prop_map(Step::Fork),
        child.clone().prop_map(Step::Ready),
        child.clone().prop_map(Step::Stop),
        (child.clone(), 0..3_u8).prop_map(|(child, code)| Step::End(child, code)),
        child.prop_map(Step::Exec),
        (0..90_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens: each worker is forked once, is ready once at most, after its fork, and nothing is told of it after its
    /// end; and nobody takes a place that another has taken.
    #[test]
    fn every_life_is_told_in_order(steps in steps()) {
        let mut host = Host::gunicorn();
        let (mut now, mut next) = (1000, 1000);
        let mut living: BTreeMap<u32, ProcessKey> = BTreeMap::new();
        for step in steps {
            now += 1;
            match step {
                Step::Fork(child) => {
                    living.entry(child).or_insert_with(|| {
                        next += 1;
                        host.forks(next, now)
                    });
                }
                Step::Ready(child) => {
                    if let Some(key) = living.get(&child) {
                        host.waits(*key, now, Some(listener()));
                    }
                }
                Step::Stop(child) => {
                    if let Some(key) = living.get(&child) {
                        host.signal(15, *key, MASTER, now);
                    }
                }
                Step::End(child, code) => {
                    if let Some(key) = living.remove(&child) {
                        host.ends(key, now, ExitStatus::Code(code));
                    }
                }
                Step::Exec(child) => {
                    if let Some(key) = living.remove(&child) {
                        host.until(now);
                        host.does.remove(&key);
                        let deeds = host.lives.left(key, ms(now));
                        host.do_all(deeds);
                    }
                }
                Step::Wait(time) => {
                    now += time;
                    host.until(now);
                }
            }
            prop_assert!(host.lives.remembers().1);
        }
        let mut by_worker: BTreeMap<ProcessKey, Vec<&WorkerEvent>> = BTreeMap::new();
        for event in &host.told {
            by_worker.entry(event.worker).or_default().push(event);
        }
        let mut taken = Vec::new();
        for (worker, events) in by_worker {
            let names: Vec<_> = events.iter().map(|event| event.change.name()).collect();
            let count = |name| names.iter().filter(|other| **other == name).count();
            prop_assert_eq!(names.first(), Some(&"worker_forked"));
            prop_assert!(count("worker_forked") == 1 && count("worker_ready") <= 1 && count("worker_exited") <= 1);
            let end = names.iter().position(|name| *name == "worker_exited");
            prop_assert!(end.is_none_or(|end| end + 1 == names.len()), "{:?}", names);
            for event in &events {
                prop_assert!(event.at >= worker.start);
                if let WorkerChange::Ready(ready) = &event.change {
                    prop_assert_eq!(ready.after, event.at.0 - worker.start.0);
                }
            }
            taken.extend(events.first().and_then(|event| event.replaces));
        }
        let count = taken.len();
        taken.sort_unstable();
        taken.dedup();
        prop_assert_eq!(taken.len(), count);
    }
}
