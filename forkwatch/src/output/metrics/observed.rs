//! What the user side counts itself: findings, what it received and lost, its own state.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use prometheus::proto::MetricFamily;

use super::{
    Answering, Options, RestsOn,
    bounded::{OTHER, UNKNOWN, label},
    clone_calls::Causes,
    ends,
    family::{Family, float},
    shares::{Admission, Shares},
};
use crate::{
    health::Part,
    model::{
        detector::DetectorState,
        finding::{Certainty, Finding, HazardId, State},
    },
};

const UNSAFE_FORKS: Family<3> = Family::new(
    "forkwatch_unsafe_forks_total",
    "Forks found unsafe, by hazard and by who forked; at most metrics.max_series pairs of program and unit, shared among users: what was idle for longest gives way, and would begin again at 0.",
    ["hazard", "program", "unit"],
);
const FINDINGS: Family<2> =
    Family::new("forkwatch_findings_total", "Findings, repeats included.", ["hazard", "certainty"]);
const RESOLVED: Family<2> =
    Family::new("forkwatch_findings_resolved_total", "Findings that are over, by how.", ["hazard", "how"]);
const SUPPRESSED: Family<1> = Family::new(
    "forkwatch_findings_suppressed_total",
    "Findings that an [[suppress]] rule silenced: they are in no other count of findings.",
    ["hazard"],
);
const UNDECIDED: Family<1> = Family::new(
    "forkwatch_forks_undecided_total",
    "Forks with the marks of a hazard that could not be judged: the process was gone or unreadable.",
    ["hazard"],
);
const CHILDREN_FAILED: Family<1> = Family::new(
    "forkwatch_children_failed_total",
    "Forked children whose record arrived that never exec'd and ended by a signal or with another code than 0, by how.",
    ["how"],
);
const GIVEN_UP: Family<1> = Family::new(
    "forkwatch_given_up_total",
    "What was not followed to its end because too much happened at once: silence about it says nothing.",
    ["what"],
);
const STUCK: Family<2> = Family::new(
    "forkwatch_stuck_children",
    "Forked children that were proven to be stuck and have not been seen to move: confirmed, or unknown where they cannot be looked at any more.",
    ["hazard", "state"],
);
const STUCK_AGE: Family<1> = Family::new(
    "forkwatch_stuck_children_oldest_seconds",
    "How long the longest of them has been seen to be stuck; 0 where there is none.",
    ["hazard"],
);
const SHARED: Family<0> = Family::new(
    "forkwatch_shared_connections",
    "Connections from before a fork that several processes hold now, and that are watched for their use.",
    [],
);
const RECEIVED: Family<0> = Family::new("forkwatch_events_received_total", "Records read from the ring.", []);
const MALFORMED: Family<0> = Family::new(
    "forkwatch_events_malformed_total",
    "Records read from the ring whose layout was not as agreed: a defect.",
    [],
);
const FILE_LOST: Family<0> = Family::new(
    "forkwatch_event_file_dropped_total",
    "Events that could not be written: to the event file, for example because the disk was full, or to standard output, because nobody read it.",
    [],
);
const LAST_EVENT: Family<0> = Family::new(
    "forkwatch_last_event_timestamp_seconds",
    "When the last record was read from the ring; absent before the first.",
    [],
);
const READ_FAILURES: Family<0> = Family::new(
    "forkwatch_kernel_read_failures_total",
    "Scrapes that could not read the kernel's counters and so lack all that comes from them.",
    [],
);
const LIMITED: Family<0> = Family::new(
    "forkwatch_metrics_series_limited_total",
    "Times that something was counted as \"other\" because metrics.max_series was reached.",
    [],
);
const DETECTORS: Family<1> = Family::new(
    "forkwatch_detector_enabled",
    "Whether each detector works now: 0 means that silence says nothing, and forkwatch_detector_state why.",
    ["detector"],
);
const DETECTOR_STATES: Family<2> = Family::new(
    "forkwatch_detector_state",
    "1 for the state that each detector is in: on, limited, undecided (it cannot conclude here), off, or stalled (a part of forkwatch hangs).",
    ["detector", "state"],
);
const PARTS: Family<1> = Family::new(
    "forkwatch_part_answers",
    "Whether each part of forkwatch did what it was asked to when this page was made: 0 means that it hangs.",
    ["part"],
);
const UNANSWERED: Family<0> = Family::new(
    "forkwatch_evidence_unanswered_questions",
    "Questions about processes that wait for an answer.",
    [],
);
const LAG: Family<0> = Family::new(
    "forkwatch_evidence_lag_seconds",
    "For how long the oldest question about a process has waited for its answer; 0 where none waits.",
    [],
);
const UNREADABLE: Family<0> = Family::new(
    "forkwatch_unreadable_processes",
    "Living processes that are not looked into now, because a look at them hung or broke: the log names them, and nothing is judged of them that wants a look.",
    [],
);
const LOST_READERS: Family<0> = Family::new(
    "forkwatch_lost_readers",
    "Readers of forkwatch that hang in a look at a process and that no signal ends: at most one for each user, and eight.",
    [],
);
const REPLACED_READERS: Family<0> = Family::new(
    "forkwatch_readers_replaced_total",
    "Readers that were replaced because a look at a process hung or broke.",
    [],
);
const RESCUES: Family<1> = Family::new(
    "forkwatch_rescues_total",
    "Locks that `forkwatch rescue` released, as it told this daemon: the thread went on (released), or not (stayed), or it failed.",
    ["outcome"],
);
const STORE_LOST: Family<0> = Family::new(
    "forkwatch_findings_store_dropped_total",
    "What was said of findings and could not be kept, for example because the disk was full.",
    [],
);
const STORE_WELL: Family<0> = Family::new(
    "forkwatch_findings_store_writable",
    "Whether findings are kept where they were meant to be: 0 where the disk is full or read-only.",
    [],
);
const RELOAD_SUCCESSFUL: Family<0> = Family::new(
    "forkwatch_config_last_reload_successful",
    "Whether the last attempt to load the configuration succeeded.",
    [],
);
const RELOAD_TIME: Family<0> = Family::new(
    "forkwatch_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was loaded.",
    [],
);

/// A finding's series: hazard, program and unit.
type Forker = (HazardId, String, String);

/// What was counted in user space since the start.
pub(super) struct Observed {
    forkers: Shares<(String, String)>,
    unsafe_forks: BTreeMap<Forker, u64>,
    findings: BTreeMap<(HazardId, Certainty), u64>,
    last_number: u64,
    resolved: BTreeMap<(HazardId, &'static str), u64>,
    suppressed: BTreeMap<HazardId, u64>,
    undecided: BTreeMap<HazardId, u64>,
    children_failed: BTreeMap<&'static str, u64>,
    given_up: BTreeMap<&'static str, u64>,
    pub(super) causes: Causes,
    stuck: BTreeMap<HazardId, Stuck>,
    pub(super) shared_connections: u64,
    detectors: BTreeMap<&'static str, Detector>,
    rescues: BTreeMap<&'static str, u64>,
    /// What the store has lost, and whether it is well.
    pub(super) store: Option<(u64, bool)>,
    reload: Option<bool>,
    reloaded_at: Option<SystemTime>,
    last_event: Option<SystemTime>,
    pub(super) received: u64,
    pub(super) malformed: u64,
    pub(super) file_lost: u64,
    pub(super) read_failures: u64,
}

/// What is known of a detector.
struct Detector {
    state: DetectorState,
    rests_on: RestsOn,
}

impl Detector {
    /// Whether a part that it rests on hangs.
    fn is_stalled(&self, answering: &Answering) -> bool {
        let hangs = answering.fails(Part::Ring) || (self.rests_on.answers && answering.fails(Part::Evidence));
        self.state.works() && hangs
    }

    /// How far it works now, unless it is stalled.
    fn state(&self, answering: &Answering) -> DetectorState {
        let late = self.rests_on.late_sleepers.filter(|_| answering.sleepers_are_late);
        late.map_or(self.state, |late| self.state.max(late))
    }
}

/// The state of a detector that rests on a part that hangs.
const STALLED: &str = "stalled";

/// Children of one hazard that are stuck.
#[derive(Clone, Copy, Default)]
struct Stuck {
    confirmed: u64,
    unknown: u64,
    since: Option<SystemTime>,
}

const CERTAINTIES: [Certainty; 3] = [Certainty::Heuristic, Certainty::Strong, Certainty::Certain];

impl Observed {
    pub(super) fn new(options: &Options) -> Self {
        let Options { hazards, hangs, max_series, given_up, .. } = options;
        let all = || hazards.iter().map(|(hazard, _)| *hazard);
        let ends =
            hazards.iter().flat_map(|(hazard, ends)| ends.iter().map(|how| ((*hazard, how.name()), 0)));
        let each = |hazard: HazardId| CERTAINTIES.map(|certainty| ((hazard, certainty), 0));
        Self {
            forkers: Shares::new(*max_series),
            unsafe_forks: all().map(|hazard| ((hazard, OTHER.to_owned(), OTHER.to_owned()), 0)).collect(),
            findings: all().flat_map(each).collect(),
            last_number: 0,
            resolved: ends.collect(),
            suppressed: all().map(|hazard| (hazard, 0)).collect(),
            undecided: all().map(|hazard| (hazard, 0)).collect(),
            children_failed: ends::WAYS.map(|way| (way, 0)).into(),
            given_up: given_up.iter().map(|what| (*what, 0)).collect(),
            causes: Causes::default(),
            stuck: hangs.iter().map(|hazard| (*hazard, Stuck::default())).collect(),
            shared_connections: 0,
            detectors: BTreeMap::new(),
            rescues: ["released", "stayed", "failed"].map(|outcome| (outcome, 0)).into(),
            store: None,
            reload: None,
            reloaded_at: None,
            last_event: None,
            received: 0,
            malformed: 0,
            file_lost: 0,
            read_failures: 0,
        }
    }

    /// A finding is counted when its number is new, and a summary by its repeats. A later state of a finding that
    /// was counted already, such as the confirmation of a suspicion, is not another one.
    pub(super) fn finding(&mut self, finding: &Finding) {
        if let State::Resolved(how) = finding.state {
            *self.resolved.entry((finding.hazard, how.name())).or_default() += finding.facts.unnamed.max(1);
            return;
        }
        let count = finding.repeats + u64::from(finding.repeats == 0 && finding.number > self.last_number);
        self.last_number = self.last_number.max(finding.number);
        if count == 0 {
            return;
        }
        *self.findings.entry((finding.hazard, finding.certainty)).or_default() += count;
    }

    pub(super) fn unsafe_fork(
        &mut self,
        hazard: HazardId,
        program: &str,
        unit: Option<&str>,
        uid: Option<u32>,
    ) {
        let forker = (label(program), unit.map_or_else(|| UNKNOWN.to_owned(), label));
        let (program, unit) = match self.forkers.admit(forker.clone(), uid, Instant::now()) {
            Admission::Own => forker,
            Admission::InPlaceOf((idle, its_unit)) => {
                self.unsafe_forks.retain(|(_, program, unit), _| *program != idle || *unit != its_unit);
                forker
            }
            Admission::Refused => (OTHER.to_owned(), OTHER.to_owned()),
        };
        *self.unsafe_forks.entry((hazard, program, unit)).or_default() += 1;
    }

    pub(super) fn suppressed(&mut self, hazard: HazardId) {
        *self.suppressed.entry(hazard).or_default() += 1;
    }

    pub(super) fn undecided(&mut self, hazard: HazardId) {
        *self.undecided.entry(hazard).or_default() += 1;
    }

    pub(super) fn child_failed(&mut self, way: &'static str) {
        *self.children_failed.entry(way).or_default() += 1;
    }

    pub(super) fn given_up(&mut self, what: &'static str) {
        *self.given_up.entry(what).or_default() += 1;
    }

    /// So many children are stuck now, and so many were when they were last seen; the longest since then.
    pub(super) fn stuck(
        &mut self,
        hazard: HazardId,
        confirmed: u64,
        unknown: u64,
        since: Option<SystemTime>,
    ) {
        self.stuck.insert(hazard, Stuck { confirmed, unknown, since });
    }

    pub(super) fn rescued(&mut self, outcome: &'static str) {
        *self.rescues.entry(outcome).or_default() += 1;
    }

    pub(super) fn detector(&mut self, detector: &'static str, state: DetectorState, rests_on: RestsOn) {
        self.detectors.insert(detector, Detector { state, rests_on });
    }

    pub(super) fn events(&mut self, count: u64, at: SystemTime) {
        self.received += count;
        self.last_event = Some(at);
    }

    pub(super) fn reload(&mut self, success: bool, at: SystemTime) {
        self.reload = Some(success);
        if success {
            self.reloaded_at = Some(at);
        }
    }

    /// All families, but that of calls that are watched on request. `units_refused`: how often the units found no room.
    pub(super) fn families(&self, units_refused: u64, answering: &Answering) -> Vec<MetricFamily> {
        let mut families = vec![
            UNSAFE_FORKS.counters(self.unsafe_forks.iter().map(|((hazard, program, unit), count)| {
                ([hazard.name(), program.as_str(), unit.as_str()], *count)
            })),
            FINDINGS.counters(
                self.findings
                    .iter()
                    .map(|((hazard, certainty), count)| ([hazard.name(), certainty.name()], *count)),
            ),
            RESOLVED
                .counters(self.resolved.iter().map(|((hazard, how), count)| ([hazard.name(), *how], *count))),
            SUPPRESSED.counters(self.suppressed.iter().map(|(hazard, count)| ([hazard.name()], *count))),
            UNDECIDED.counters(self.undecided.iter().map(|(hazard, count)| ([hazard.name()], *count))),
            CHILDREN_FAILED.counters(self.children_failed.iter().map(|(how, count)| ([*how], *count))),
            GIVEN_UP.counters(self.given_up.iter().map(|(what, count)| ([*what], *count))),
            self.stuck_children(answering),
            STUCK_AGE.gauges(self.stuck.iter().map(|(hazard, stuck)| ([hazard.name()], age(stuck.since)))),
            SHARED.gauge(float(self.shared_connections)),
            RECEIVED.counter(self.received),
            MALFORMED.counter(self.malformed),
            FILE_LOST.counter(self.file_lost),
            RESCUES.counters(self.rescues.iter().map(|(outcome, count)| ([*outcome], *count))),
            READ_FAILURES.counter(self.read_failures),
            LIMITED.counter(self.forkers.refused() + units_refused),
            DETECTORS.gauges(self.detectors.iter().map(|(name, detector)| {
                let works = detector.state(answering).works() && !detector.is_stalled(answering);
                ([*name], truth(works))
            })),
            self.detector_states(answering),
            PARTS.gauges(Part::ALL.map(|part| ([part.name()], truth(!answering.fails(part))))),
            UNANSWERED.gauge(float(answering.unanswered)),
            LAG.gauge(answering.lag.as_secs_f64()),
            UNREADABLE.gauge(float(answering.unreadable)),
            LOST_READERS.gauge(float(answering.lost_readers)),
            REPLACED_READERS.counter(answering.replaced_readers),
        ];
        families.extend(self.store.map(|(lost, _)| STORE_LOST.counter(lost)));
        families.extend(self.store.map(|(_, is_well)| STORE_WELL.gauge(truth(is_well))));
        families.extend(self.reload.map(|success| RELOAD_SUCCESSFUL.gauge(truth(success))));
        families.extend(self.reloaded_at.map(|at| RELOAD_TIME.gauge(unix_seconds(at))));
        families.extend(self.last_event.map(|at| LAST_EVENT.gauge(unix_seconds(at))));
        families
    }
}

impl Observed {
    /// Where nobody looks at processes any more, what was seen of them last says nothing of now.
    fn stuck_children(&self, answering: &Answering) -> MetricFamily {
        let blind = answering.fails(Part::Ring) || answering.fails(Part::Evidence);
        STUCK.gauges(self.stuck.iter().flat_map(|(hazard, stuck)| {
            let Stuck { confirmed, unknown, since: _ } = *stuck;
            let (confirmed, unknown) = if blind { (0, confirmed + unknown) } else { (confirmed, unknown) };
            [([hazard.name(), "confirmed"], float(confirmed)), ([hazard.name(), "unknown"], float(unknown))]
        }))
    }

    fn detector_states(&self, answering: &Answering) -> MetricFamily {
        let states = DetectorState::ALL.map(DetectorState::name).into_iter().chain([STALLED]);
        DETECTOR_STATES.gauges(self.detectors.iter().flat_map(|(name, detector)| {
            let now = if detector.is_stalled(answering) { STALLED } else { detector.state(answering).name() };
            states.clone().map(move |state| ([*name, state], truth(state == now)))
        }))
    }
}

/// 1 or 0.
fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Seconds since then.
fn age(since: Option<SystemTime>) -> f64 {
    since.and_then(|since| since.elapsed().ok()).map_or(0.0, |age| age.as_secs_f64())
}

/// To the millisecond, as Prometheus keeps time itself.
fn unix_seconds(time: SystemTime) -> f64 {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    float(u64::try_from(millis).unwrap_or(u64::MAX)) / 1e3
}
