//! Many programs under one forkwatch, which soon loses its patience with children that wait for locks.
//!
//! That nothing is found about a program shows in two ways. A child of a fixture that is let go last gets stuck, and
//! its proof takes longest: when that is reported, whatever else there was to report has been. So that it is not a matter
//! of milliseconds, a second one follows it. And the recording says when each child was looked at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    event::{Event, Finding},
    fixture,
    forkwatch::Forkwatch,
    process,
    program::Program,
    recording,
    wait::until,
};

/// How long a child must wait for a lock that names its owner; the slowest proof takes thirty times as long.
pub const STUCK_AFTER: Duration = Duration::from_millis(200);
const SLOWEST: Duration = Duration::from_secs(6);

/// A program among others.
pub struct Member {
    /// What it is called in what a test says.
    pub name: String,
    /// The program.
    pub program: Program,
    /// What it told when it had forked.
    pub told: Value,
}

impl Member {
    /// A number that it told.
    pub fn number(&self, name: &str) -> Result<i64> {
        let number = self.told.get(name).and_then(Value::as_i64);
        number.with_context(|| format!("{} told no {name}: {}", self.name, self.told))
    }

    /// A text that it told.
    pub fn text(&self, name: &str) -> Result<&str> {
        let text = self.told.get(name).and_then(Value::as_str);
        text.with_context(|| format!("{} told no {name}: {}", self.name, self.told))
    }

    /// The child that it told of.
    pub fn child(&self) -> Result<i64> {
        self.number("child")
    }

    fn family(&self) -> Vec<i64> {
        let family = process::descendants(self.program.pid()).into_iter().map(|member| member.pid.into());
        family.collect()
    }
}

/// Programs under watch.
pub struct Crowd {
    /// The programs, all of which have told what they made.
    pub members: Vec<Member>,
    /// The forkwatch.
    pub forkwatch: Forkwatch,
    yardsticks: [Program; 2],
    folder: TempDir,
}

/// The arguments of a forkwatch that soon loses its patience.
pub fn impatient() -> Vec<String> {
    let stuck_after = format!("{}ms", STUCK_AFTER.as_millis());
    ["--grace", "100ms", "--stuck-after", &stuck_after].map(str::to_owned).to_vec()
}

impl Crowd {
    /// Watches held programs, then releases them; each tells what it made.
    pub fn start(programs: Vec<(String, Program)>) -> Result<Self> {
        Self::start_with(programs, |_, program| program.next_json())
    }

    /// Watches held programs, then releases them and has them do something that ends in what they tell.
    pub fn start_with(
        programs: Vec<(String, Program)>,
        work: impl Fn(usize, &mut Program) -> Result<Value>,
    ) -> Result<Self> {
        let yardstick = |name| fixture::hold_as("queue_lll", name, &[]);
        let yardsticks = [yardstick("yardstick")?, yardstick("yardstick-again")?];
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut arguments = impatient();
        arguments.extend(["--record".to_owned(), record(folder.path()).display().to_string()]);
        let pids = programs.iter().map(|(_, program)| program).chain(&yardsticks).map(Program::pid);
        arguments.extend(pids.flat_map(|pid| ["--pid".to_owned(), pid.to_string()]));
        let forkwatch = Forkwatch::tail(arguments)?;
        let mut released = Vec::new();
        for (name, mut program) in programs {
            program.release()?;
            released.push((name, program));
        }
        let mut members = Vec::new();
        for (index, (name, mut program)) in released.into_iter().enumerate() {
            let told = work(index, &mut program).with_context(|| format!("{name}: {}", program.output()))?;
            members.push(Member { name, program, told });
        }
        Ok(Self { members, forkwatch, yardsticks, folder })
    }

    /// One of the programs, by its place among them.
    pub fn member(&self, index: usize) -> Result<&Member> {
        self.members.get(index).with_context(|| format!("there is no member {index}"))
    }

    /// Waits for the finding that the child of a member is stuck.
    pub fn stuck_of(&mut self, index: usize) -> Result<Event> {
        let member = self.member(index)?;
        let (name, child) = (member.name.clone(), member.child()?);
        self.stuck(child).with_context(|| format!("of {name}"))
    }

    /// Waits for the finding that a child is stuck.
    pub fn stuck(&mut self, child: i64) -> Result<Event> {
        self.forkwatch
            .wait_for(&format!("the finding about the stuck child {child}"), |event| is_stuck(event, child))
    }

    /// Waits until all that there was to find has been found: the proof that takes longest has come, twice.
    fn wait_for_the_slowest(&mut self) -> Result<()> {
        for index in 0..self.yardsticks.len() {
            let yardstick = self.yardsticks.get_mut(index).context("there are two")?;
            yardstick.release()?;
            let told = yardstick.next_json().context("of the yardstick")?;
            let child =
                told.get("child").and_then(Value::as_i64).context("the yardstick told of no child")?;
            let event = self.stuck(child)?;
            let proof = event.text("/forkwatch/finding/evidence/lock/proof");
            ensure!(proof == "queue", "another proof: {event:#?}");
        }
        Ok(())
    }

    /// Waits until all that there was to find has been found, and returns it with the recording.
    pub fn finish(mut self) -> Result<(Vec<Event>, String)> {
        self.wait_for_the_slowest()?;
        let (events, _) = self.forkwatch.stop()?;
        Ok((events, fs::read_to_string(record(self.folder.path()))?))
    }

    /// Waits until all that there was to find has been found, and checks that of the processes that live now none was
    /// called anything but unsafely forked, or what `is_allowed` takes for right of the member of that name.
    pub fn expect_silence(mut self, is_allowed: impl Fn(&str, Finding<'_>) -> bool) -> Result<()> {
        let families: Vec<(String, Vec<i64>)> =
            self.members.iter().map(|member| (member.name.clone(), member.family())).collect();
        self.wait_for_the_slowest()?;
        // How often a child is looked at depends on how many there are.
        let record = record(self.folder.path());
        let all = || families.iter().flat_map(|(_, family)| family);
        until("the watch to go on with each child for as long as the slowest proof takes", || {
            let text = fs::read_to_string(&record)?;
            // The last line may be under way.
            let looks = looks(text.rsplit_once('\n').map_or("", |(whole, _)| whole))?;
            Ok(all().all(|pid| looks.get(pid).is_some_and(|looked| *looked >= SLOWEST)).then_some(()))
        })?;
        let (events, _) = self.forkwatch.stop()?;
        let looks = looks(&fs::read_to_string(&record)?)?;
        let mut wrong = Vec::new();
        for (name, family) in families {
            ensure!(!family.is_empty(), "{name} has no child to look at");
            for pid in family {
                let findings =
                    events.iter().filter(|event| event.pid() == Some(pid)).filter_map(Event::finding);
                let unexpected = findings.filter(|finding| {
                    let is_of_fork = matches!(finding.hazard(), "multithreaded-fork" | "held-locks");
                    !is_of_fork && !is_allowed(&name, *finding)
                });
                wrong.extend(unexpected.map(|finding| {
                    let (hazard, certainty, lock) = (finding.hazard(), finding.certainty(), finding.lock());
                    format!("{name}: {hazard}, {certainty}: {}\n{lock}", finding.summary())
                }));
                let looked = looks.get(&pid).copied().unwrap_or_default();
                ensure!(looked >= SLOWEST, "{name}: {pid} was watched for {looked:?} only");
            }
        }
        ensure!(wrong.is_empty(), "did not expect:\n{}", wrong.join("\n"));
        Ok(())
    }
}

fn is_stuck(event: &Event, child: i64) -> bool {
    const HAZARDS: [&str; 2] = ["orphaned-lock", "waits-for-lost-thread"];
    event.pid() == Some(child) && event.finding().is_some_and(|finding| HAZARDS.contains(&finding.hazard()))
}

fn record(folder: &Path) -> PathBuf {
    folder.join("recording")
}

/// For each process that was looked at, how long the watch went on after its first look. Who sleeps on and waits for nothing
/// is not looked at again, as long as the pass over all tasks tells so.
fn looks(recording: &str) -> Result<BTreeMap<i64, Duration>> {
    let mut first: BTreeMap<i64, u64> = BTreeMap::new();
    let mut last = 0;
    for kind in ["child", "locks"] {
        for line in recording::evidence(recording, kind)? {
            let pid = line.pointer("/child/tgid").and_then(Value::as_i64);
            let at = line.pointer("/seen/alive/at").and_then(Value::as_u64);
            if let (Some(pid), Some(at)) = (pid, at) {
                let known = first.entry(pid).or_insert(at);
                *known = at.min(*known);
                last = at.max(last);
            }
        }
    }
    let lasted = |at: u64| Duration::from_nanos(last.saturating_sub(at));
    Ok(first.into_iter().map(|(pid, at)| (pid, lasted(at))).collect())
}
