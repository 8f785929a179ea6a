//! What the daemon says of itself to those who ask.

use std::{sync::Arc, time::SystemTime};

use jiff::Timestamp;

use super::servers;
use crate::{
    api::{
        DetectorHealth, Doubt, HazardDocument, Hazards, Health, PartHealth, ProcessDocument, Processes,
        RemedyDocument, Servers, Workers,
    },
    detect::CATALOGUE,
    engine::detectors::Detector,
    health::{Failing, How, Part},
    host,
    live::Tally,
    model::{detector::DetectorState, followed::Followed, process::escape},
    output::{Context, workers},
    serve::Describe,
    store::Store,
};

/// Most processes of one answer.
const MOST_PROCESSES: usize = 5000;

/// Those of them whose names are looked up.
const MOST_NAMED: usize = 1000;

/// What it knows.
pub(super) struct Answers {
    pub(super) context: Context,
    pub(super) detectors: Vec<DetectorHealth>,
    pub(super) tally: Arc<Tally>,
    pub(super) store: Store,
    pub(super) began: SystemTime,
    pub(super) workers: workers::Workers,
}

/// How far a detector works, for whoever asks.
pub(super) fn detector(detector: &Detector) -> DetectorHealth {
    DetectorHealth {
        name: detector.name.to_owned(),
        state: detector.state.name().to_owned(),
        reason: detector.reason.clone(),
        on_request: detector.on_request,
    }
}

impl Describe for Answers {
    fn health(&self, failing: &[Failing], is_ready: bool) -> Health {
        let parts: Vec<PartHealth> = Part::ALL.into_iter().map(|part| part_health(part, failing)).collect();
        let time = |time: SystemTime| Timestamp::try_from(time).unwrap_or_default();
        let mut health = Health {
            schema: "forkwatch.health/1".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.context.host_name.clone(),
            began: format!("{:.3}", time(self.began)),
            now: format!("{:.3}", Timestamp::now()),
            watching: is_ready && failing.is_empty(),
            silence_is_safe: true,
            doubts: Vec::new(),
            parts,
            detectors: self.detectors.clone(),
            store: self.store.health(),
            workers_told: self.workers.told(),
            forks: Tally::get(&self.tally.forks),
            undecided: Tally::get(&self.tally.undecided),
            lost: Tally::get(&self.tally.lost),
            given_up: Tally::get(&self.tally.given_up),
            accepted: Tally::get(&self.tally.accepted),
        };
        health.doubts = doubts(&health, is_ready);
        health.silence_is_safe = health.doubts.is_empty();
        health
    }

    fn processes(&self, followed: Vec<Followed>, pid: Option<u32>) -> Processes {
        let is_asked = |followed: &Followed| {
            pid.is_none_or(|pid| {
                followed.process.tgid == pid || followed.parent.is_some_and(|parent| parent.tgid == pid)
            })
        };
        // Of the end of one that nothing was found about nobody is told.
        let lives = |followed: &Followed| host::exists(followed.process.tgid);
        let mut asked: Vec<Followed> = followed.into_iter().filter(is_asked).filter(lives).collect();
        let left_out = asked.len().saturating_sub(MOST_PROCESSES);
        asked.truncate(MOST_PROCESSES);
        Processes {
            schema: "forkwatch.processes/1".to_owned(),
            processes: asked
                .iter()
                .enumerate()
                .map(|(place, followed)| self.process(followed, place))
                .collect(),
            left_out: u64::try_from(left_out).unwrap_or(u64::MAX),
        }
    }

    fn servers(&self, most: usize) -> Servers {
        self.workers.look_told(|table, told| servers::servers(table, told, most, &self.context))
    }

    fn workers(&self, pid: Option<u32>) -> Workers {
        self.workers.look(|table| servers::workers(table, &self.context, pid))
    }

    fn hazards(&self) -> Hazards {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let hazards = CATALOGUE.iter().map(|hazard| HazardDocument {
            id: hazard.id.name().to_owned(),
            title: hazard.title.to_owned(),
            what: hazard.what.to_owned(),
            detection: hazard.detection.to_owned(),
            certainty: hazard.certainty,
            certainty_reason: hazard.certainty_reason.to_owned(),
            severity: hazard.severity,
            look_alikes: text(hazard.look_alikes),
            remedies: (hazard.remedies)()
                .into_iter()
                .map(|(who, remedy)| RemedyDocument {
                    who: who.to_owned(),
                    text: remedy.text,
                    link: remedy.link,
                })
                .collect(),
            links: text(hazard.links),
        });
        Hazards { schema: "forkwatch.hazards/1".to_owned(), hazards: hazards.collect() }
    }
}

impl Answers {
    fn process(&self, followed: &Followed, place: usize) -> ProcessDocument {
        // These reads never wait, but each takes some microseconds of the watch.
        let look = || host::find(followed.process.tgid).ok().filter(|found| found.key == followed.process);
        let name = (place < MOST_NAMED).then(look).flatten().map(|found| escape(found.comm.bytes()));
        ProcessDocument {
            pid: followed.process.tgid,
            name,
            entity_id: self.context.entity_id(followed.process),
            start: format!("{:.3}", self.context.timestamp(followed.process.start)),
            parent_pid: followed.parent.map(|parent| parent.tgid),
            forked_by: followed.forked_by.map(|comm| escape(comm.bytes())),
            forker_threads: followed.forker_threads,
            uid: followed.uid,
            hangs: followed.hangs,
            waits: followed.waits,
            carried_locks: u64::try_from(followed.carried_locks).unwrap_or(u64::MAX),
        }
    }
}

fn part_health(part: Part, failing: &[Failing]) -> PartHealth {
    let fails = failing.iter().find(|failing| failing.part == part);
    PartHealth {
        name: part.name().to_owned(),
        answers: !fails.is_some_and(|failing| matches!(failing.how, How::Silent(_) | How::Unable(_))),
        why: fails.map(ToString::to_string),
    }
}

/// Why silence does not mean safe, the gravest first.
fn doubts(health: &Health, is_ready: bool) -> Vec<Doubt> {
    let doubt = |id: &str, what: String| Doubt { id: id.to_owned(), what };
    let mut doubts = Vec::new();
    if !is_ready {
        doubts.push(doubt("not-watching", "the watch is starting, or ending".to_owned()));
    }
    doubts.extend(health.parts.iter().filter_map(|part| Some(doubt("part", part.why.clone()?))));
    if health.lost > 0 {
        doubts.push(doubt("lost", format!("{} records were lost: raise kernel.ring_bytes", health.lost)));
    }
    if health.given_up > 0 {
        doubts.push(doubt(
            "given-up",
            format!(
                "{} times something was not followed to its end, because too much happened at once",
                health.given_up
            ),
        ));
    }
    let on = DetectorState::On.name();
    for detector in health.detectors.iter().filter(|detector| detector.state != on && !detector.on_request) {
        let DetectorHealth { name, state, reason, .. } = detector;
        doubts.push(doubt("detector", format!("{name} is {state}: {reason}")));
    }
    doubts
}
