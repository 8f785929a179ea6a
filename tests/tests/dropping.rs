//! A ring that is too small for its storm: what gives way, what does not, and that every event is accounted for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    daemon::Daemon,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    metrics::{Scrape, both},
    program::Program,
    runner::Tests,
    tests,
    wait::until,
};

/// The smallest ring there is: some 250 forks with their exits.
const SMALL_RING: &str = "65536";
/// Hazardous forks in the storm: less than the quarter of the ring that is kept for them holds.
const HAZARDOUS: usize = 50;

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        plain_forks_give_way_to_hazardous_ones_and_all_are_accounted_for,
        every_event_of_a_daemon_has_exactly_one_fate,
    ])
}

/// How many forks the storm says it has made.
fn forks(storm: &mut Program) -> Result<usize> {
    let told = storm.next_json()?;
    let forks = told.get("forks").and_then(serde_json::Value::as_u64);
    Ok(usize::try_from(forks.with_context(|| format!("the storm told no forks: {told}"))?)?)
}

fn count(events: &[Event], action: &str) -> usize {
    events.iter().filter(|event| event.action() == action).count()
}

fn lost(events: &[Event]) -> usize {
    events.iter().filter_map(Event::lost).filter_map(|count| usize::try_from(count).ok()).sum()
}

/// How many numbers are missing between the first and the last of each CPU.
fn gaps(events: &[Event]) -> Result<usize> {
    let mut seen: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (cpu, sequence) in events.iter().filter_map(Event::origin) {
        ensure!(seen.entry(cpu).or_default().insert(sequence), "CPU {cpu} numbered two events {sequence}");
    }
    let mut gaps = 0;
    for numbers in seen.values() {
        let (first, last) = numbers.first().zip(numbers.last()).context("no CPU is without events")?;
        gaps += usize::try_from(last - first)? + 1 - numbers.len();
    }
    Ok(gaps)
}

fn plain_forks_give_way_to_hazardous_ones_and_all_are_accounted_for() -> Result<()> {
    /// The second follows the first too fast for the losses of both to be told in passing.
    const STORMS: usize = 2;
    let mut storm = fixture::hold("framed_storm", &["2", "200", &HAZARDOUS.to_string()])?;
    let pid = storm.pid().to_string();
    let mut tail = Forkwatch::tail(["--pid", &pid, "--ring-bytes", SMALL_RING])?;
    storm.release()?;
    let cpus = forks(&mut storm)?;
    tail.wait_until("the first round", |events| count(events, "exit") == cpus)?;

    let accounted = |events: &[Event]| count(events, "fork") + count(events, "exit") + lost(events);
    let mut made = cpus;
    for survivors in 1..=STORMS {
        tail.freeze()?;
        storm.step()?;
        made = forks(&mut storm)?;
        tail.thaw()?;
        // Of each fork there are two events, but for those that live on.
        let wanted = 2 * made - survivors;
        tail.wait_until("every event of the storm, be it lost", |events| accounted(events) >= wanted)?;
    }
    storm.end(None)?;
    made += cpus;
    let (events, said) = tail.stop()?;

    let hazardous: Vec<_> =
        events.iter().filter(|event| event.pending_signals() == ["SIGUSR1"]).filter_map(Event::pid).collect();
    ensure!(hazardous.len() == STORMS * HAZARDOUS, "{} hazardous forks arrived", hazardous.len());
    let ended = |pid: &i64| events.iter().any(|event| event.action() == "exit" && event.pid() == Some(*pid));
    ensure!(hazardous.iter().all(ended), "the end of a hazardous fork is missing");
    let lost = lost(&events);
    ensure!(accounted(&events) == 2 * made, "{} events of {made} forks and exits", accounted(&events));
    ensure!(lost > made / 4, "only {lost} events lost of {made} forks and exits: the storms were none");
    let reasons: BTreeSet<_> =
        events.iter().filter(|event| event.lost().is_some()).map(Event::loss_reason).collect();
    ensure!(reasons == BTreeSet::from(["plain-shed"]), "lost for {reasons:?}");
    ensure!(gaps(&events)? == lost, "gaps of {} for {lost} lost events", gaps(&events)?);
    ensure!(
        said.contains(&format!("{lost} records lost (plain-shed)")),
        "the summary does not say so: {said}"
    );
    Ok(())
}

fn every_event_of_a_daemon_has_exactly_one_fate() -> Result<()> {
    const FORKS: f64 = 4.0 * 2001.0;
    let configuration = format!("[kernel]\nring_bytes = {SMALL_RING}\n");
    let mut daemon = Daemon::start(&configuration, &["--events", "stdout"])?;
    let (first, kernel_first) = drained(&daemon)?;
    daemon.forkwatch.freeze()?;
    let mut storm = fixture::hold("fork_storm", &["4", "2000"])?;
    storm.release()?;
    storm.next_json()?;
    daemon.forkwatch.thaw()?;
    let (last, kernel_last) = drained(&daemon)?;

    let grown = |metric: &str, labels: &str| last.sum(metric, labels) - first.sum(metric, labels);
    let all = |metric: &str| grown(metric, "");
    let (tasks, kernels) = (all("forkwatch_forks_total"), kernel_last - kernel_first);
    ensure!(same(tasks, kernels), "{tasks} tasks counted, the kernel counted {kernels}");
    ensure!(same(tasks, all("forkwatch_kernel_tasks_created_total")), "the kernel's count is another's");
    // Others on this host may fork meanwhile: their forks are in the exact sum above.
    let copying = grown("forkwatch_forks_total", "kind=\"fork\"");
    ensure!(copying >= FORKS && tasks >= FORKS, "{copying} forks of a storm of {FORKS}");

    let (seen, submitted) = (all("forkwatch_events_seen_total"), all("forkwatch_events_submitted_total"));
    let (filtered, dropped) = (all("forkwatch_events_filtered_total"), all("forkwatch_events_dropped_total"));
    ensure!(dropped > 10_000.0, "only {dropped} events dropped: the storm was none");
    ensure!(
        same(seen, submitted + filtered + dropped),
        "{seen} seen, {submitted} + {filtered} + {dropped} accounted"
    );
    let received = all("forkwatch_events_received_total");
    ensure!(same(submitted, received), "{submitted} records submitted, {received} received");
    let told =
        |events: &[Event]| u32::try_from(lost(events)).is_ok_and(|lost| f64::from(lost) > dropped - 0.5);
    daemon.forkwatch.wait_until("events that tell of all that was dropped", told)?;
    daemon.stop()
}

/// A scrape and the kernel's count at a moment in which nothing forks and nothing is on its way through the ring.
fn drained(daemon: &Daemon) -> Result<(Scrape, f64)> {
    until("an empty ring", || {
        let (scrape, kernels) = both(daemon.address)?;
        Ok(same(scrape.sum("forkwatch_ring_used_bytes", ""), 0.0).then_some((scrape, kernels)))
    })
}

/// Whether two counts are equal.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.5
}
