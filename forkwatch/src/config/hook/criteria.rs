//! Which events a hook is about.

use wildmatch::WildMatch;

use crate::detect;

/// An event that a hook can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Something was found, or has become of that.
    Finding,
    /// A server has forked a worker.
    WorkerForked,
    /// A worker waits for work for the first time.
    WorkerReady,
    /// A signal has asked a worker to end.
    WorkerStopping,
    /// A worker has ended.
    WorkerExited,
    /// A worker has taken the place of another.
    WorkerReplaced,
    /// A lock was released in a child that hung.
    Rescued,
    /// Events were dropped, so that something may have been missed.
    EventsLost,
}

impl On {
    const ALL: [Self; 8] = [
        Self::Finding,
        Self::WorkerForked,
        Self::WorkerReady,
        Self::WorkerStopping,
        Self::WorkerExited,
        Self::WorkerReplaced,
        Self::Rescued,
        Self::EventsLost,
    ];

    /// As `event.action` of the document says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::WorkerForked => "worker_forked",
            Self::WorkerReady => "worker_ready",
            Self::WorkerStopping => "worker_stopping",
            Self::WorkerExited => "worker_exited",
            Self::WorkerReplaced => "worker_replaced",
            Self::Rescued => "rescued",
            Self::EventsLost => "events_lost",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    const fn is_of_worker(self) -> bool {
        matches!(
            self,
            Self::WorkerForked
                | Self::WorkerReady
                | Self::WorkerStopping
                | Self::WorkerExited
                | Self::WorkerReplaced
        )
    }
}

const CERTAINTIES: [&str; 3] = ["heuristic", "strong", "certain"];
const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];
const STATES: [&str; 4] = ["suspected", "confirmed", "unknown", "resolved"];

/// What an event must be for a hook to run: all that is set.
#[derive(Clone, Debug, PartialEq)]
pub struct Criteria {
    on: Vec<On>,
    hazard: Vec<WildMatch>,
    certainty: usize,
    severity: usize,
    state: Vec<&'static str>,
    unit: Option<WildMatch>,
    server: Option<WildMatch>,
    comm: Option<WildMatch>,
    uid: Option<u32>,
    how: Vec<WildMatch>,
}

/// As they are written.
pub(super) struct Written {
    pub(super) hazard: Vec<String>,
    pub(super) certainty: Option<String>,
    pub(super) severity: Option<String>,
    pub(super) state: Option<Vec<String>>,
    pub(super) unit: Option<String>,
    pub(super) server: Option<String>,
    pub(super) comm: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) how: Vec<String>,
}

/// What an event says of itself, as far as hooks ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `event.action`.
    pub action: String,
    /// The hazard of a finding.
    pub hazard: Option<String>,
    /// How sure that is.
    pub certainty: Option<String>,
    /// How much it matters.
    pub severity: Option<String>,
    /// `suspected`, `confirmed`, `unknown` or `resolved`.
    pub state: Option<String>,
    /// The unit of the forker.
    pub unit: Option<String>,
    /// The server of a worker.
    pub server: Option<String>,
    /// What the processes are called.
    pub names: Vec<String>,
    /// The user of the forker.
    pub uid: Option<u32>,
    /// How a worker ended.
    pub how: Option<String>,
    /// Whether a user's own word is all that there is for the names.
    pub is_of_user: bool,
}

impl Told {
    /// Whether it tells of an end: then its process is gone as a rule, and to ask whether it is still there means nothing. A
    /// worker that has taken the place of another lives.
    pub fn is_of_an_end(&self) -> bool {
        self.action == On::WorkerExited.name()
            || self.state.as_deref() == Some("resolved")
            || self.hazard.as_deref().is_some_and(detect::is_about_the_dead)
    }
}

impl Criteria {
    pub(super) fn read(on: &[String], written: Written) -> Result<Self, String> {
        let Written { hazard, certainty, severity, state, unit, server, comm, uid, how } = written;
        let on: Vec<On> = on
            .iter()
            .map(|name| On::of(name).ok_or_else(|| no_such("`on`", name, &On::ALL.map(On::name))))
            .collect::<Result<_, _>>()?;
        if on.is_empty() {
            return Err(format!(
                "`on` is empty: name what it runs for, of {}",
                On::ALL.map(On::name).join(", ")
            ));
        }
        let finding = !hazard.is_empty() || certainty.is_some() || severity.is_some() || state.is_some();
        if finding && !on.contains(&On::Finding) {
            return Err(
                "`hazard`, `certainty`, `severity` and `state` are of findings, which `on` does not name"
                    .to_owned(),
            );
        }
        if !how.is_empty() && !on.contains(&On::WorkerExited) {
            return Err("`how` is how a worker ended, and `on` does not name worker_exited".to_owned());
        }
        if server.is_some() && !on.iter().all(|one| one.is_of_worker()) {
            return Err("`server` is known of workers alone, so `on` can only name worker_… with it; for findings, use `unit` \
                        or `comm`"
                .to_owned());
        }
        for pattern in &hazard {
            let pattern = WildMatch::new(pattern);
            if !detect::ids().any(|id| pattern.matches(id.name())) {
                return Err(format!(
                    "`hazard`: {:?} fits no hazard; `forkwatch explain` lists them",
                    pattern.to_string()
                ));
            }
        }
        let texts = [("unit", &unit), ("server", &server), ("comm", &comm)];
        if let Some((key, _)) = texts.iter().find(|(_, text)| text.as_deref() == Some("")) {
            return Err(format!(
                "`{key}` is empty and would fit nothing: remove it, or write a pattern such as \"*\""
            ));
        }
        let level = |key: &str, names: &[&str], written: Option<String>| match written {
            None => Ok(0),
            Some(name) => names.iter().position(|one| *one == name).ok_or_else(|| no_such(key, &name, names)),
        };
        let state = match state {
            // What is over is told to those who ask for it.
            None => vec!["suspected", "confirmed", "unknown"],
            Some(names) => names
                .iter()
                .map(|name| {
                    STATES
                        .into_iter()
                        .find(|one| one == name)
                        .ok_or_else(|| no_such("`state`", name, &STATES))
                })
                .collect::<Result<_, _>>()?,
        };
        let pattern = |text: Option<String>| text.map(|text| WildMatch::new(&text));
        let patterns = |texts: Vec<String>| texts.iter().map(|text| WildMatch::new(text)).collect();
        Ok(Self {
            on,
            hazard: patterns(hazard),
            certainty: level("`certainty`", &CERTAINTIES, certainty)?,
            severity: level("`severity`", &SEVERITIES, severity)?,
            state,
            unit: pattern(unit),
            server: pattern(server),
            comm: pattern(comm),
            uid,
            how: patterns(how),
        })
    }

    /// The events that it is about, whatever else it asks for.
    pub fn on(&self) -> impl Iterator<Item = &'static str> {
        self.on.iter().map(|on| on.name())
    }

    /// Whether it is about this one.
    ///
    /// Names and units of a user's processes are what that user calls them. A unit of a user's has a slash, so that
    /// `web.service` is never his; a name fits what is his only where `uid` or `unit` say whose processes are meant.
    pub fn fit(&self, told: &Told) -> bool {
        let Some(action) = self.on.iter().find(|on| on.name() == told.action) else { return false };
        let some = |pattern: &Option<WildMatch>, text: &Option<String>| {
            pattern.as_ref().is_none_or(|pattern| text.as_deref().is_some_and(|text| pattern.matches(text)))
        };
        let among = |patterns: &[WildMatch], text: &Option<String>| {
            patterns.is_empty()
                || text.as_deref().is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text)))
        };
        let at_least = |least: usize, names: &[&str], text: &Option<String>| {
            least == 0
                || names
                    .iter()
                    .position(|name| text.as_deref() == Some(*name))
                    .is_some_and(|level| level >= least)
        };
        let at_its_word = self.uid.is_some() || self.unit.is_some() || !told.is_of_user;
        let is_of_finding = *action == On::Finding;
        let has_slash = |text: &str| text.contains('/');
        (!is_of_finding
            || (among(&self.hazard, &told.hazard)
                && at_least(self.certainty, &CERTAINTIES, &told.certainty)
                && at_least(self.severity, &SEVERITIES, &told.severity)
                && told.state.as_deref().is_some_and(|state| self.state.contains(&state))))
            && (*action != On::WorkerExited || among(&self.how, &told.how))
            && some(&self.unit, &told.unit)
            && self.unit.as_ref().is_none_or(|pattern| {
                told.unit.as_deref().is_some_and(has_slash) == has_slash(&pattern.to_string())
            })
            && (self.server.is_none() || (at_its_word && some(&self.server, &told.server)))
            && self
                .comm
                .as_ref()
                .is_none_or(|pattern| at_its_word && told.names.iter().any(|name| pattern.matches(name)))
            && self.uid.is_none_or(|uid| told.uid == Some(uid))
    }
}

fn no_such(key: &str, name: &str, known: &[&str]) -> String {
    format!("{key}: {name:?} is none of {}", known.join(", "))
}
