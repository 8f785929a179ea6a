//! What a confined reader sees is what anybody with all privileges sees, whatever the question and whosever the process;
//! and no look changes what it looks at.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use forkwatch::{
    host::{self, Scope},
    model::{
        event::{CloneFailure, Event, Origin},
        evidence::{Evidence, Request},
        held_lock::{HeldLocksSeen, Places},
        leak::Object,
        particulars::Particulars,
        process::ProcessKey,
        stack::Stacks,
        time::BootTime,
    },
    reader::{Answer, Client, Question, Starter},
};
use forkwatch_tests::{
    fixture,
    host::needs_root,
    process,
    program::{Launch, Program},
    runner::Tests,
    tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        of_a_process_of_ones_own,
        of_another_users_process,
        of_a_process_in_namespaces_of_its_own,
        of_a_process_that_has_ended,
    ])
}

fn of_a_process_of_ones_own() -> Result<()> {
    let mut program = fixture::hold("much_shared", &[])?;
    program.release()?;
    sees_the_same(&mut program)
}

fn of_another_users_process() -> Result<()> {
    let mut program = fixture::hold_for("nobody", "much_shared")?;
    program.release()?;
    sees_the_same(&mut program)
}

fn of_a_process_in_namespaces_of_its_own() -> Result<()> {
    needs_root()?;
    let binary = fixture::fixture("much_shared")?;
    let mut program = Program::hold(|_| {
        Ok(Launch::new("/usr/bin/unshare")
            .args(["--user", "--map-root-user", "--pid", "--mount", "--net", "--fork", "--kill-child"])
            .args([binary.clone()]))
    })?;
    program.release()?;
    sees_the_same(&mut program)
}

/// It is not called hidden, which it would be by whoever cannot ask whether it is there.
fn of_a_process_that_has_ended() -> Result<()> {
    needs_root()?;
    let mut program = fixture::hold_for("nobody", "much_shared")?;
    program.release()?;
    let family = Family::of(&mut program)?;
    kill(Pid::from_raw(family.child.tgid.try_into()?), Signal::SIGKILL)?;
    program.end(Some(Signal::SIGKILL))?;
    for process in [family.child, family.parent] {
        let folder = PathBuf::from(format!("/proc/{}", process.tgid));
        until("its end to be taken in", || Ok((!folder.exists()).then_some(())))?;
    }
    let mut client = Client::new(Starter::start()?);
    for request in family.questions() {
        let Answer::Core(confined) = ask(&mut client, &Question::Core(request.clone()))? else {
            bail!("another answer")
        };
        let free = host::answer(&request);
        let (confined, free) = (serde_json::to_value(confined)?, serde_json::to_value(free)?);
        ensure!(lasting(confined.clone()) == lasting(free.clone()), "{request:?}:\n{confined:#}\n{free:#}");
        ensure!(!confined.to_string().contains("unreadable"), "{request:?}: {confined:#}");
    }
    Ok(())
}

/// A parent and its child, which waits for a lock of a thread that only the parent has.
struct Family {
    parent: ProcessKey,
    child: ProcessKey,
    holder: u32,
    lock: u64,
}

impl Family {
    fn of(program: &mut Program) -> Result<Self> {
        let told = program.next_json()?;
        let lock = told.get("lock").and_then(Value::as_str).context("no lock")?;
        let lock = u64::from_str_radix(lock.trim_start_matches("0x"), 16)?;
        // In a pid namespace it knows itself by other ids.
        let all = process::descendants(program.pid()).into_iter().map(|one| one.pid).chain([program.pid()]);
        let mut all: Vec<_> = all.filter_map(|pid| host::find(u32::try_from(pid).ok()?).ok()).collect();
        all.sort_unstable_by_key(|process| process.key.start);
        let child = all.iter().find(|process| process.unexeced).context("no child")?;
        let parent = all.iter().find(|process| process.key.tgid == child.parent).context("no parent")?;
        until("the child to wait", || {
            Ok(process::waits_for(child.key.tgid.cast_signed(), lock).then_some(()))
        })?;
        // From then on neither writes anything, and so nothing but a look changes what they share.
        until("the parent to wait", || {
            let call = fs::read_to_string(format!("/proc/{}/syscall", parent.key.tgid))?;
            let number = call.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
            Ok((number == Some(libc::SYS_read)).then_some(()))
        })?;
        let threads = fs::read_dir(format!("/proc/{}/task", parent.key.tgid))?;
        let threads = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let holder = threads.filter(|tid| *tid != parent.key.tgid).min().context("no holder")?;
        Ok(Self { parent: parent.key, child: child.key, holder, lock })
    }

    fn questions(&self) -> Vec<Request> {
        let Self { parent, child, holder, lock } = *self;
        let (forked_at, forking_tid) = (child.start, parent.tgid);
        let place = |stacks| Request::Place {
            child,
            parent: Some(parent),
            tid: child.tgid,
            address: lock,
            holder: Some(holder),
            stacks,
        };
        let held_locks = |places| Request::HeldLocks { child, parent, forking_tid, forked_at, places };
        vec![
            Request::Parent { child, parent, forking_tid, forked_at },
            Request::Child { child },
            Request::Locks {
                child,
                parent: Some(parent),
                forked_at: Some(forked_at),
                forking_tid: Some(forking_tid),
            },
            held_locks(None),
            held_locks(Some(Places { owned: vec![lock], plain: vec![lock] })),
            place(Stacks::None),
            place(Stacks::Light),
            place(Stacks::Full),
            Request::Sockets { child, parent },
            Request::Descriptors { process: child, forker: Some(parent) },
            Request::Program { tgid: parent.tgid },
            Request::Threads { child, stacks: Stacks::Light },
            Request::Execed { process: parent },
        ]
    }
}

/// What does not change from one look to the next.
fn lasting(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for moment in ["at", "slept", "took", "ran", "waited", "moved", "switches"] {
                fields.remove(moment);
            }
            fields.values_mut().for_each(|field| *field = lasting(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = lasting(item.take())),
        _ => {}
    }
    value
}

fn ask(client: &mut Client, question: &Question) -> Result<Answer> {
    Ok(client.ask(question).with_context(|| format!("{question:?}"))?.answer)
}

/// Kibibytes that a process shares with another since a fork: what is read must not be copied for it.
fn shared(process: ProcessKey) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.tgid))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Shared_Dirty:")).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn sees_the_same(program: &mut Program) -> Result<()> {
    needs_root()?;
    let family = Family::of(program)?;
    // Pages of a file that was just written count as shared and dirty too, as soon as they are looked at.
    fs::File::open(format!("/proc/{}/exe", family.child.tgid))?.sync_all()?;
    let before = (shared(family.parent)?, shared(family.child)?);
    ensure!(before.1 > 8 * 1024, "the child shares {} kB alone", before.1);
    let mut client = Client::new(Starter::start()?);
    for request in family.questions() {
        let Answer::Core(confined) = ask(&mut client, &Question::Core(request.clone()))? else {
            bail!("another answer")
        };
        let after = (shared(family.parent)?, shared(family.child)?);
        ensure!(before == after, "{request:?} copied memory: {before:?}, {after:?}");
        let free = host::answer(&request);
        let (confined, free) = (serde_json::to_value(confined)?, serde_json::to_value(free)?);
        ensure!(lasting(confined.clone()) == lasting(free.clone()), "{request:?}:\n{confined:#}\n{free:#}");
        let blind = ["unreadable", "cannot be read", "Operation not permitted", "defect"];
        let text = confined.to_string();
        ensure!(!blind.iter().any(|word| text.contains(word)), "{confined:#}");
    }
    sees_all_processes(&mut client, &family)?;
    let process = host::find(family.parent.tgid)?;
    let Answer::Inventory(inventory) = ask(&mut client, &Question::Inventory(process))? else {
        bail!("another answer")
    };
    let (inventory, free) = (inventory?, host::inventory(&process)?);
    ensure!(inventory.unknown.is_empty() && inventory.thread_count == 1, "{inventory:#?}");
    ensure!(inventory.events.epoll == 1, "{inventory:#?}");
    let both = [serde_json::to_value(&*inventory)?, serde_json::to_value(free)?].map(lasting);
    let [confined, free] = &both;
    ensure!(confined == free, "{confined:#}\n{free:#}");
    let answer = ask(&mut client, &Question::Living(family.child))?;
    ensure!(matches!(answer, Answer::Living(Some(living)) if living.unexeced), "{answer:?}");
    let answer = ask(&mut client, &Question::Sight(8))?;
    ensure!(matches!(&answer, Answer::Sight(sight) if !sight.views.is_empty()), "{answer:?}");
    let failure = CloneFailure {
        origin: Origin { cpu: 0, sequence: 0 },
        at: BootTime(0),
        tgid: family.parent.tgid,
        tid: family.parent.tgid,
        comm: process.comm,
        uid: 0,
        cgroup: 0,
        errno: libc::ENOMEM.cast_unsigned(),
        duration: 1,
    };
    let answer = ask(&mut client, &Question::Particulars(Event::CloneFailure(failure)))?;
    ensure!(matches!(&answer, Answer::Particulars(Particulars::Limit(_))), "{answer:?}");
    ensure!(before == (shared(family.parent)?, shared(family.child)?), "a look copied memory");
    finds_the_lock(&mut client, &family)?;
    ensure!(before == (shared(family.parent)?, shared(family.child)?), "the search copied memory");
    ensure!(client.replaced() <= 1, "a reader did not live through these questions");
    Ok(())
}

/// The search for locks has read the memory indeed: it finds the one that the child waits for.
fn finds_the_lock(client: &mut Client, family: &Family) -> Result<()> {
    let Family { child, parent, lock, .. } = *family;
    let (forking_tid, forked_at) = (parent.tgid, child.start);
    let request = Request::HeldLocks { child, parent, forking_tid, forked_at, places: None };
    let Answer::Core(evidence) = ask(client, &Question::Core(request))? else { bail!("another answer") };
    let Evidence::HeldLocks { seen: HeldLocksSeen::Alive(held), .. } = *evidence else {
        bail!("nothing seen: {evidence:#?}")
    };
    // On a slow host the budget may be used up before.
    ensure!(held.searched + held.skipped > 8 << 20, "{held:#?}");
    ensure!(held.locks.iter().any(|held| held.address == lock), "{lock:#x} is not in {held:#?}");
    Ok(())
}

fn sees_all_processes(client: &mut Client, family: &Family) -> Result<()> {
    let scope = Scope { roots: vec![family.parent], ..Scope::default() };
    for question in
        [Question::Core(Request::Sweep { mark: None }), Question::Sweep { mark: None, scope: scope.clone() }]
    {
        let Answer::Core(evidence) = ask(client, &question)? else { bail!("another answer") };
        let Evidence::Sweep { seen: Some(sweep) } = *evidence else { bail!("{question:?}: nothing seen") };
        let swept = sweep.unexeced.iter().find(|swept| swept.process == family.child);
        ensure!(swept.is_some_and(|swept| swept.parent.is_some()), "{question:?}: {sweep:#?}");
        let names: Vec<String> = sweep.unexeced.iter().map(|swept| swept.comm.to_text()).collect();
        ensure!(!names.iter().any(|name| name.starts_with("fw-")), "it sees itself: {names:?}");
    }
    let pipe = fs::read_link(format!("/proc/{}/fd/0", family.child.tgid))?.display().to_string();
    let inode = pipe.trim_start_matches("pipe:[").trim_end_matches(']').parse()?;
    let holders =
        Request::Holders { process: family.child, forker: Some(family.parent), object: Object::Pipe(inode) };
    let Answer::Core(evidence) = ask(client, &Question::Core(holders))? else { bail!("another answer") };
    let Evidence::Holders { seen: Some(seen), .. } = *evidence else { bail!("no holders seen") };
    ensure!(seen.of(family.child).is_some() && seen.of(family.parent).is_some(), "{seen:#?}");
    Ok(())
}
