//! What `docs/hooks.md` shows, done as it says there: hooks, programs and drop-ins are taken from the page that the package
//! brings and installed as they stand in it, and a worker of gunicorn's that goes wrong sets them off. What the page leaves
//! to the reader, a token or somebody to be paged, stands in here.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use forkwatch_tests::{
    event::Event,
    guest::runner::Test,
    hooks_page::{self, Example},
    schema,
};
use serde_json::Value;

use crate::{
    configuration::{Changed, DropIn},
    local::{HOOKS, HOOKS_UNIT, until_the_watch_is_heard},
    systemd::{run, systemctl, until},
};

mod processes;
mod requests;

/// The page, as it is installed.
const PAGE: &str = "/usr/share/doc/forkwatch/docs/hooks.md";
/// Suspects soon, so that the tests need not wait.
const SOON: &str = "[judge]\nstuck_after = \"500ms\"\n";

/// A test of each, by the heading above it.
const SHOWN: [(&str, Test); 7] = [
    ("Keys", ("hooks.md, keys, a program is run for what is proven", requests::a_program_is_run)),
    ("https", ("hooks.md, https, curl tells it by way of a proxy, with a token", requests::curl_tells_it)),
    ("Page somebody", ("hooks.md, examples, somebody is paged", requests::somebody_is_paged)),
    ("Open an issue on GitHub", ("hooks.md, examples, gh opens an issue", requests::gh_opens_an_issue)),
    (
        "Keep what a debugger sees",
        ("hooks.md, examples, what debuggers see is kept", processes::what_debuggers_see_is_kept),
    ),
    ("Drain a worker", ("hooks.md, examples, a worker is drained", processes::a_worker_is_drained)),
    (
        "Kill what is proven to hang",
        ("hooks.md, examples, what hangs is killed, and looked at before", processes::what_hangs_is_killed),
    ),
];

/// All of them, and what they have in common.
pub(crate) fn tests() -> impl Iterator<Item = Test> {
    let own = [
        ("hooks.md, every example has a test", every_example_has_a_test as fn() -> Result<()>),
        ("hooks.md, without its drop-in a hook may not kill", processes::without_its_drop_in_it_fails),
    ];
    SHOWN.into_iter().map(|(_, test)| test).chain(own)
}

fn every_example_has_a_test() -> Result<()> {
    let titles: Vec<String> =
        hooks_page::examples(&page()?)?.into_iter().map(|example| example.title).collect();
    ensure!(titles.iter().eq(SHOWN.map(|(title, _)| title).iter()), "the page has examples of {titles:?}");
    Ok(())
}

fn page() -> Result<String> {
    fs::read_to_string(PAGE).with_context(|| format!("cannot read {PAGE}"))
}

/// The example with this heading.
fn shown(title: &str) -> Result<Example> {
    hooks_page::example(&page()?, title)
}

/// Examples that are installed, and the service that runs them. All of it is taken back.
struct Installed {
    _files: Vec<Changed>,
    _drop_in: DropIn,
}

impl Installed {
    /// Installs them together, and has the service hear the watch.
    fn of(examples: &[&Example]) -> Result<Self> {
        let joined = |part: fn(&Example) -> &str| {
            examples.iter().map(|example| part(example)).collect::<Vec<_>>().join("\n")
        };
        let mut files = vec![Changed::to(HOOKS, &joined(|example| &example.hooks))?];
        for (path, text) in examples.iter().flat_map(|example| &example.programs) {
            files.push(Changed::program(path, text)?);
        }
        let drop_in = DropIn::of(HOOKS_UNIT, &joined(|example| &example.drop_in))?;
        let checked = Command::new("/usr/bin/forkwatch").args(["hook", "check"]).output()?;
        let warnings = String::from_utf8_lossy(&checked.stderr);
        ensure!(checked.status.success() && warnings.is_empty(), "{}: {warnings}", checked.status);
        let installed = Self { _files: files, _drop_in: drop_in };
        systemctl(&["restart", HOOKS_UNIT])?;
        until_the_watch_is_heard()?;
        Ok(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Err(error) = systemctl(&["stop", HOOKS_UNIT]) {
            eprintln!("{HOOKS_UNIT} goes on: {error:#}");
        }
    }
}

/// How a hook has run, as the process that runs hooks says.
fn hook(name: &str) -> Result<Value> {
    let list: Value = serde_json::from_str(&run("/usr/bin/forkwatch", &["hook", "list", "--json"])?)?;
    let hooks = list.get("hooks").and_then(Value::as_array).context("no hooks")?;
    let named = hooks.iter().find(|hook| hook.get("name").and_then(Value::as_str) == Some(name));
    named.cloned().with_context(|| format!("no hook {name}: {list}"))
}

/// How often it has ended so.
fn count(hook: &Value, how: &str) -> Result<u64> {
    hook.get(how).and_then(Value::as_u64).with_context(|| format!("no {how}: {hook}"))
}

/// Waits until a hook has run well. One that fails is a failure at once.
fn until_run(name: &str) -> Result<()> {
    until(&format!("the hook {name} to run"), || {
        let hook = hook(name)?;
        if count(&hook, "failed")? + count(&hook, "timed_out")? > 0 {
            bail!("it failed: {hook:#}");
        }
        Ok((count(&hook, "good")? > 0).then_some(()))
    })
}

/// A document that a hook was given: an event as the schema has it, about the process that a finding is about.
fn about(text: &str, finding: &Event) -> Result<Event> {
    let told = Event(schema::event(text)?);
    let is_it = told
        .finding()
        .is_some_and(|told| finding.finding().is_some_and(|found| found.hazard() == told.hazard()));
    ensure!(is_it && told.pid() == finding.pid(), "told was {}, and found {}", told.0, finding.0);
    Ok(told)
}
