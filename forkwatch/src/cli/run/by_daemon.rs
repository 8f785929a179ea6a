//! Where forkwatch may not watch itself: the command is run, and a running daemon is asked what it finds about it.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    CommandEnd, Options, Outcome,
    announcing::Announcing,
    command::{Signals, Watched},
    conclude,
    ours::{MARK, Ours, identity},
    reports::Reports,
    told,
};
use crate::{
    api::{Health, PREFIX},
    cli::exit::Exit,
    client::{AskError, Heard, Watch},
    engine::session,
    host,
    model::finding::State,
    output::{
        Context, Output as _,
        report::{Collecting, Seen},
    },
    privilege::PrivilegeError,
};

/// Longest wait for the daemon to listen to us.
const BEGIN: Duration = Duration::from_secs(10);
/// What the daemon has seen just before the end is told within this.
const LAST: Duration = Duration::from_millis(500);
/// How often it is looked for descendants that are left.
const LOOK: Duration = Duration::from_millis(250);

/// Runs the command, if a daemon can be asked.
pub(super) fn run(options: &Options, lacking: PrivilegeError) -> Result<Exit> {
    if options.record.is_some() || options.suppress.is_some() {
        let why = format!(
            "{lacking}; a daemon could be asked instead, but not with --record or --suppress, which are of its own"
        );
        return Err(anyhow::Error::from(lacking).context(why));
    }
    let watch = Watch::at(None);
    let mark =
        host::find(std::process::id()).map(|own| format!("{}-{}", own.key.tgid, own.key.start.ticks()))?;
    let mut command = Watched::start(&options.command, Some((MARK, &mark)))?;
    let process = host::find(command.pid())?;
    let context = session::context();
    let reports = Reports::create(&options.reports)?;
    let before = watch.get::<Health>(&format!("{PREFIX}/health")).ok();
    let told = RefCell::new(Told::new(Ours::new(&mark, process.key), &context));
    let outcome = session::runtime()?.block_on(async {
        let heard_of = Notify::new();
        let path = format!("{PREFIX}/events?type=finding&each=own");
        let mut follow = Box::pin(watch.follow(&path, |heard| match heard {
            Heard::Begun => heard_of.notify_one(),
            Heard::Document(document) => told.borrow_mut().take(document),
            Heard::TooLong => told.borrow_mut().unread += 1,
        }));
        tokio::select! {
            () = heard_of.notified() => {}
            error = &mut follow => return Err(refused(lacking, &error)),
            () = sleep(BEGIN) => {
                let silent = AskError::Refused("forkwatch daemon", "nothing for ten seconds".to_owned());
                return Err(refused(lacking, &silent));
            }
        }
        eprintln!(
            "forkwatch: you may not watch, so the daemon at {} is asked; its own settings apply",
            watch.path().display()
        );
        let signals = Signals::new()?;
        command.go()?;
        let began = Instant::now();
        let mut whole = Box::pin(async {
            let end = command.ended(signals).await?;
            let lasted = began.elapsed();
            sleep(LAST).await;
            let _ = timeout(options.linger, descendants_ended(&told)).await;
            Ok::<(CommandEnd, Duration), anyhow::Error>((end, lasted))
        });
        tokio::select! {
            ended = &mut whole => {
                let (end, lasted) = ended?;
                Ok(Outcome { end, took: lasted, failed: None })
            }
            error = &mut follow => {
                eprintln!("forkwatch: the daemon is not heard any more, the command goes on: {error}");
                let (end, lasted) = whole.await?;
                Ok(Outcome { end, took: lasted, failed: Some(error.into()) })
            }
        }
    })?;
    let told = told.into_inner();
    if told.unknown > 0 {
        eprintln!(
            "forkwatch: {} findings are about processes that had ended when they were told: they may be the command's, and are \
             not counted (forkwatch findings)",
            told.unknown
        );
    }
    let doubts = doubts(&watch, before.as_ref());
    for doubt in &doubts {
        eprintln!("forkwatch: the daemon may have missed something: {doubt}");
    }
    let doubtful = u64::try_from(doubts.len()).unwrap_or(u64::MAX);
    let undecided = told.unknown + told.unread + doubtful;
    let seen = Seen { undecided, forks: None, ..told.seen.borrow().clone() };
    conclude(options, &context, &outcome, &seen, reports)
}

/// What the daemon says of itself that speaks against its silence, and that was not so before.
fn doubts(watch: &Watch, before: Option<&Health>) -> Vec<String> {
    let now = match watch.get::<Health>(&format!("{PREFIX}/health")) {
        Ok(now) => now,
        Err(error) => return vec![error.to_string()],
    };
    // What a detector cannot see on this host it could not see before either, and the daemon's log has said so.
    let mut doubts: Vec<String> = now
        .doubts
        .iter()
        .filter(|doubt| ["not-watching", "part"].contains(&doubt.id.as_str()))
        .map(|doubt| doubt.what.clone())
        .collect();
    let grown = |now: u64, before: Option<u64>| now.saturating_sub(before.unwrap_or(0));
    let lost = grown(now.lost, before.map(|health| health.lost));
    if lost > 0 {
        doubts.push(format!("{lost} records were lost"));
    }
    let given_up = grown(now.given_up, before.map(|health| health.given_up));
    if given_up > 0 {
        doubts.push(format!(
            "{given_up} times something was not followed to its end, because too much happened at once"
        ));
    }
    doubts
}

/// Why it cannot be watched in either way.
fn refused(lacking: PrivilegeError, daemon: &AskError) -> anyhow::Error {
    let why = format!("{lacking}; and no daemon can be asked instead: {daemon}");
    anyhow::Error::from(lacking).context(why)
}

/// Ready when no descendant of the command is left.
async fn descendants_ended(told: &RefCell<Told<'_>>) {
    while told.borrow().ours.any_lives() {
        sleep(LOOK).await;
    }
}

/// What the daemon has told.
struct Told<'a> {
    ours: Ours,
    context: &'a Context,
    collecting: Collecting,
    announcing: Announcing,
    seen: std::rc::Rc<RefCell<Seen>>,
    /// Findings about processes of this user of which it cannot be told whose they are.
    unknown: u64,
    unread: u64,
}

impl<'a> Told<'a> {
    fn new(ours: Ours, context: &'a Context) -> Self {
        let (collecting, seen) = Collecting::new();
        Self { ours, context, collecting, announcing: Announcing::default(), seen, unknown: 0, unread: 0 }
    }

    fn take(&mut self, line: &str) {
        let Ok(document) = serde_json::from_str::<Value>(line) else {
            self.unread += 1;
            return;
        };
        match self.is_ours(&document) {
            Some(true) => {}
            Some(false) => return,
            None => {
                self.unknown += 1;
                return;
            }
        }
        let Some(finding) = told::finding(&document, self.context) else {
            self.unread += 1;
            return;
        };
        let resolved = matches!(finding.state, State::Resolved(_));
        let told = if resolved {
            self.collecting.resolution(&finding)
        } else {
            self.collecting.finding(&finding).and_then(|()| self.announcing.finding(&finding))
        };
        // Nobody reads stderr any more: the report is still to be written.
        let _ = told;
    }

    /// Whether a finding is about the command; none where that cannot be told, and it may be.
    fn is_ours(&mut self, document: &Value) -> Option<bool> {
        let process = |pointer: &str| {
            let process = document.pointer(pointer)?;
            identity(process.get("pid")?.as_u64()?, process.get("entity_id")?.as_str()?)
        };
        let found = document.pointer("/forkwatch/finding");
        let number = found.and_then(|found| found.get("number")?.as_u64());
        // What was the command's once is so to its end.
        if self.seen.borrow().found.iter().any(|found| Some(found.finding.number) == number) {
            return Some(true);
        }
        let known: Vec<Option<bool>> = ["/process", "/process/parent"]
            .into_iter()
            .filter_map(process)
            .map(|process| self.ours.is(process))
            .collect();
        if known.contains(&Some(true)) {
            return Some(true);
        }
        let is_over = found.and_then(|found| found.get("state")?.as_str()) == Some("resolved");
        let uid = document.pointer("/process/parent/user/id").and_then(Value::as_str);
        let is_own = uid.is_none_or(|uid| uid == nix::unistd::getuid().to_string());
        if known.contains(&Some(false)) || is_over || !is_own { Some(false) } else { None }
    }
}
